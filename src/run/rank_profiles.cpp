#include "run/rank_profiles.hpp"

#include <algorithm>
#include <utility>

#include "comm/exchange.hpp"
#include "ops/parallel_for.hpp"
#include "run/machine.hpp"

namespace flexgen {

RankProfiles exchange_profiles(const std::optional<LoadedProfile>& own, Communicator& ranks) {
  struct Own {
    std::optional<LoadedProfile> loaded;
    static constexpr auto fields() { return std::tuple(field("loaded", &Own::loaded)); }
  };
  RankProfiles profiles;
  for (Own& one : gather(ranks, Own{own})) profiles.push_back(std::move(one.loaded));
  return profiles;
}

RankProfiles gather_profiles(const std::string& file, Communicator& ranks) {
  std::optional<LoadedProfile> own;
  ranks.agree_on_error([&] { own = load_profile(file, ranks.host()); });
  return exchange_profiles(own, ranks);
}

void lend_profiles(RankProfiles& profiles) {
  for (auto& profile : profiles)
    if (!profile) profile = profiles.front();
}

void share_machines(RankProfiles& profiles, Communicator& ranks) {
  struct Own {
    double processors = 1;
    static constexpr auto fields() { return std::tuple(field("processors", &Own::processors)); }
  };
  const std::vector<Own> all = gather(ranks, Own{std::min<double>(own_processors(ranks).count, num_loop_threads())});
  for (std::size_t r = 0; r < profiles.size(); ++r) {
    if (!profiles[r]) continue;
    MachineShare& share = profiles[r]->share;
    share = MachineShare::even(ranks.place(static_cast<int>(r)).local_size);
    share.processors = std::min(1.0, all[r].processors / std::max(1, profiles[r]->profile.memory.num_processors));
  }
}

}  // namespace flexgen
