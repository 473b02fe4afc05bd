#include "weights/checkpoint/weight_map.hpp"

#include <fmt/core.h>

#include <filesystem>
#include <unordered_set>
#include <utility>

#include "weights/checkpoint/json_events.hpp"
#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

namespace {

class IndexEvents final : public JsonEvents {
 public:
  using JsonEvents::JsonEvents;
  WeightMap shards;
  bool has_map = false;

 private:
  void on_open(char bracket) override {
    ++depth_;
    if (in_map_ && (depth_ != 2 || bracket != '{')) unexpected();
  }
  void on_close() override {
    if (--depth_ == 1) in_map_ = false;
  }

  void on_key(std::string& key) override {
    if (depth_ == 1 && key == "weight_map") {
      if (std::exchange(has_map, true)) refuse_file(file(), "it has two weight maps");
      in_map_ = true;
    } else if (in_map_) {
      if (!keys_.insert(key).second) refuse_tensor(file(), key, "its key occurs twice in the index");
      key_ = std::move(key);
    }
  }

  void on_string(std::string& shard) override {
    if (!in_map_) return;
    if (depth_ != 2) unexpected();
    check_shard_name(shard);
    shards[std::move(shard)].push_back(std::move(key_));
  }
  void on_count(std::uint64_t) override { on_other(); }
  void on_other() override {
    if (in_map_) unexpected();
  }

  void check_shard_name(const std::string& shard) const {
    const std::filesystem::path path(shard);
    bool leaves = shard.empty() || path.is_absolute() || shard.find('\0') != std::string::npos;
    for (const auto& part : path) leaves = leaves || part == "..";
    if (leaves) {
      refuse_file(file(), fmt::format("its shard name {} leads out of the model's folder", quote_name(shard)),
                  "Use an index that names files beside it");
    }
  }

  [[noreturn]] void unexpected() const {
    refuse_file(file(), "its weight_map does not map tensor names to file names");
  }

  std::unordered_set<std::string> keys_;
  std::string key_;
  std::size_t depth_ = 0;
  bool in_map_ = false;
};

}  // namespace

WeightMap parse_weight_map(std::string_view text, std::string_view file) {
  IndexEvents events(file);
  parse_json_object(text, file, events);
  if (events.shards.empty()) refuse_file(file, "it has no weight_map");
  return std::move(events.shards);
}

}  // namespace flexgen::checkpoint
