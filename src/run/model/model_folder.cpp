#include "run/model/model_folder.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "model/registry.hpp"
#include "ops/elementwise.hpp"
#include "run/job_identity.hpp"
#include "run/model/model_directory.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

const CheckpointTensor* find_first(const Checkpoint& checkpoint, std::span<const std::string> keys) {
  for (const std::string& key : keys)
    if (const CheckpointTensor* tensor = checkpoint.find(key)) return tensor;
  return nullptr;
}

// Elements [first, first + count) as float32: equal values of two element types are equal.
void read_values(const Checkpoint& checkpoint, const CheckpointTensor& tensor, std::uint64_t first,
                 std::vector<std::byte>& raw, std::span<float> values) {
  const std::uint64_t size = element_bytes(tensor.dtype);
  raw.resize(values.size() * size);
  checkpoint.read(tensor, first * size, raw);
  convert_elements(raw.data(), tensor.dtype, std::as_writable_bytes(values).data(), DType::float32, values.size());
}

bool same_values(const Checkpoint& checkpoint, const CheckpointTensor& a, const CheckpointTensor& b) {
  if (a.file == b.file && a.offset_bytes == b.offset_bytes && a.dtype == b.dtype && a.size_bytes == b.size_bytes)
    return true;
  const std::uint64_t num_elements = a.size_bytes / element_bytes(a.dtype);
  if (num_elements != b.size_bytes / element_bytes(b.dtype)) return false;
  constexpr std::uint64_t at_once = MiB;
  std::vector<std::byte> raw;
  std::vector<float> of_a(std::min(at_once, num_elements));
  std::vector<float> of_b(of_a.size());
  for (std::uint64_t first = 0; first < num_elements; first += at_once) {
    const std::uint64_t count = std::min(at_once, num_elements - first);
    read_values(checkpoint, a, first, raw, std::span(of_a).first(count));
    read_values(checkpoint, b, first, raw, std::span(of_b).first(count));
    if (std::memcmp(of_a.data(), of_b.data(), count * sizeof(float)) != 0) return false;
  }
  return true;
}

// Counters, masks and tables that are computed from nothing learnt.
bool is_harmless_buffer(std::string_view key) {
  constexpr std::array<std::string_view, 8> endings{".position_ids", ".version",           "._float_tensor",
                                                    ".masked_bias",  ".inv_freq",          ".causal_mask",
                                                    ".attn.bias",    "num_batches_tracked"};
  return std::ranges::any_of(endings, [&](std::string_view ending) { return key.ends_with(ending); });
}

std::string first_names(const std::vector<std::string>& names) {
  constexpr std::size_t most = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) text += (i == 0 ? "'" : ", '") + names[i] + "'";
  return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}

void describe(const ModelFolder& folder, const Checkpoint& checkpoint, ModelUse use, bool has_own) {
  if (use == ModelUse::generation)
    for (const std::string& sentence : describe_unread_wishes(folder.directory.string())) log::warn(sentence);
  for (const std::string& sentence : describe_unread_members(folder.directory.string())) log::warn(sentence);
  if (fs::exists(folder.directory / "adapter_config.json"))
    log::warn(
        fmt::format("the adapter in '{}' (adapter_config.json) is not applied: the weights beside it run as they are; "
                    "merge it with merge_and_unload() if it is wanted",
                    folder.directory.string()));
  if (has_own)
    log::info("lm_head.weight differs from embed_tokens.weight, though config.json ties them: both are kept");
  if (!folder.spec.compression.is_none()) return;  // written by ourselves
  const std::vector<std::string> unread = unread_tensors(checkpoint, folder.spec);
  if (!unread.empty())
    log::warn(fmt::format("nothing reads {} of the checkpoint's tensors: {}", unread.size(), first_names(unread)));
}

// Another model of the same shape would give wrong answers without a word.
void require_same_weights(const fs::path& directory, Communicator& ranks) {
  if (ranks.size() == 1) return;
  std::string weights;
  ranks.agree_on_error([&] { weights = describe_weights(directory); });
  ranks.all_equal("the model's weights", weights);
}

}  // namespace

bool has_own_head(const Checkpoint& checkpoint, const ModelSpec& spec) {
  const CheckpointNames& names = find_family(spec.family).names;
  const CheckpointTensor* table = find_first(checkpoint, names.table_keys());
  const CheckpointTensor* head = find_first(checkpoint, names.head);
  return table != nullptr && head != nullptr && !same_values(checkpoint, *table, *head);
}

std::vector<std::string> unread_tensors(const Checkpoint& checkpoint, const ModelSpec& spec) {
  std::set<std::string_view> read;
  const Layers layers = make_layers(spec, {0, spec.num_layers, true, true}, false);
  for (const auto& layer : layers)
    for (const WeightSpec& weight : layer->description().weights)
      for (const CheckpointKeys& source : weight.sources)
        for (const std::string& key : source.keys)
          if (const CheckpointTensor* tensor = checkpoint.find(key)) {
            read.insert(tensor->key);
            break;
          }
  const std::vector<std::string>& head = find_family(spec.family).names.head;
  if (spec.head.tied) read.insert(head.begin(), head.end());  // equal to the table, or the table itself
  std::vector<std::string> unread;
  for (const CheckpointTensor& tensor : checkpoint.tensors())
    if (!read.contains(tensor.key) && !is_harmless_buffer(tensor.key)) unread.push_back(tensor.key);
  for (const UnsupportedTensor& tensor : checkpoint.unsupported())
    if (!is_harmless_buffer(tensor.key)) unread.push_back(tensor.key);
  return unread;
}

ModelFolder open_model(const ModelChoice& choice, Communicator& ranks, ModelUse use) {
  ModelFolder folder;
  ranks.agree_on_error([&] {
    folder.directory = find_model(choice, use == ModelUse::shape);
    folder.spec = read_model_spec(folder.directory.string());
    folder.spec.name = model_name(folder.directory, folder.spec.name);
  });
  if (use == ModelUse::shape) return folder;
  std::string has_own = "no";
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    const Checkpoint checkpoint = Checkpoint::open(folder.directory);
    const bool may_differ = folder.spec.head.tied && folder.spec.compression.is_none();
    if (may_differ && has_own_head(checkpoint, folder.spec)) has_own = "yes";
    if (has_own == "yes") folder.spec.head.tied = false;
    describe(folder, checkpoint, use, has_own == "yes");
  });
  if (ranks.broadcast(has_own) == "yes") folder.spec.head.tied = false;
  require_same_weights(folder.directory, ranks);
  return folder;
}

}  // namespace flexgen
