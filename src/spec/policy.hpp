// How a job is run: sizes, placement, precision. Never the order of work: that is the schedule.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.hpp"
#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// The three classes of tensors that a placement distributes over tiers.
enum class TensorClass : std::uint8_t { weights, cache, hidden };
inline constexpr std::size_t num_tensor_classes = 3;
std::string_view tensor_class_name(TensorClass tensor_class);

/// Percent of one tensor class on gpu and on dram; the rest lies on ssd.
struct Share {
  double gpu_percent = 100;
  double dram_percent = 0;

  double gpu() const { return gpu_percent / 100; }
  double dram() const { return dram_percent / 100; }
  double ssd() const { return 1 - gpu() - dram(); }
  static constexpr auto fields() {
    return std::tuple(field("gpu_percent", &Share::gpu_percent), field("dram_percent", &Share::dram_percent));
  }
  bool operator==(const Share&) const = default;
};

/// `--percent wg wc cg cc hg hc`.
struct Placement {
  Share weights;
  Share cache;
  Share hidden;

  const Share& of(TensorClass tensor_class) const;
  static constexpr auto fields() {
    return std::tuple(field("weights", &Placement::weights), field("cache", &Placement::cache),
                      field("hidden", &Placement::hidden));
  }
  bool operator==(const Placement&) const = default;
};

/// Checks 0 <= each, gpu + dram <= 100 per class; throws UserError (usage).
Placement make_placement(const std::array<double, 6>& percent);

/// When rows enter a block.
enum class BlockRule : std::uint8_t {
  rolling,  // a row takes the place of one that has ended, before the next sweep
  fixed,    // FlexGen's: a block is filled when it is empty, and keeps its rows until the last has ended
};

/// Where the positions of a cache slot are cut: percent of its rows whose cache lies on gpu, and of the others that the
/// host attends for.
struct CacheCut {
  double gpu_percent = 0;
  double host_percent = 0;

  bool is_cut() const { return host_percent > 0; }
  static constexpr auto fields() {
    return std::tuple(field("gpu_percent", &CacheCut::gpu_percent), field("host_percent", &CacheCut::host_percent));
  }
  bool operator==(const CacheCut&) const = default;
};

/// What all ranks of a job have alike: the sizes of a block, and everything else that its tokens depend on.
struct BlockShape {
  std::int32_t micro_batch_size = 1;   // B: rows computed in one call
  std::int32_t num_micro_batches = 1;  // K: micro-batches that share one pass over the weights
  std::int32_t num_groups = 1;         // blocks in flight: at least the number of stages
  BlockRule rule = BlockRule::rolling;
  bool wants_sharing = true;      // rows that begin alike hold that once, where the job and the device can
  std::int32_t num_prefixes = 0;  // such beginnings that a micro-batch's cache holds at most; 0: rows share nothing
  std::int32_t token_budget = 0;  // tokens that a micro-batch may bring in a sweep; 0: as many as the job wants
  DType dtype = DType::float32;   // of weights, cache and activations
  QuantFormat weight_format;      // of matrices; none: dtype
  QuantFormat cache_format;       // of keys and values; none: dtype
  double attention_sparsity = 1;  // share of the keys whose values decode attention uses
  /// Of every rank's slots, as a row's run lies on one side of it everywhere; where it is none, a rank alone cuts as
  /// its own policy has it.
  CacheCut cache_cut;

  std::int64_t block_rows() const { return static_cast<std::int64_t>(micro_batch_size) * num_micro_batches; }
  bool operator==(const BlockShape&) const = default;
};

/// What a rank may have for itself: where the tensors of its slice lie and how they get to the computation.
struct StagePolicy {
  Placement placement;
  bool overlap = true;          // loads and stores behind the computation
  bool separate_layers = true;  // attention and mlp are two layers of the sweep
  bool pin_weights = true;      // host memory that the GPU reads is pinned
  /// Decode attention of rows whose cache lies in dram runs on the host: of this share of them, the others' cache is
  /// brought to the computing device. 0: of none.
  double host_attention_percent = 0;

  bool uses_host_attention() const { return host_attention_percent > 0; }
  /// How it cuts a cache slot; none where all rows are treated alike.
  CacheCut own_cut() const;
  static constexpr auto fields() {
    return std::tuple(field("placement", &StagePolicy::placement), field("overlap", &StagePolicy::overlap),
                      field("separate_layers", &StagePolicy::separate_layers),
                      field("pin_weights", &StagePolicy::pin_weights),
                      field("host_attention_percent", &StagePolicy::host_attention_percent));
  }
  bool operator==(const StagePolicy&) const = default;
};

/// A rank's part in a job, whole.
struct Policy : BlockShape, StagePolicy {
  bool operator==(const Policy&) const = default;
};

/// What the ranks of a job run together.
struct JobPolicy {
  BlockShape block;
  std::vector<StagePolicy> stages;   // by rank
  std::vector<std::int32_t> slices;  // decoder layers, by rank

  /// A rank's part, whole.
  Policy of_rank(std::size_t rank) const;
};

/// The policy as command-line flags that give it again when pasted.
std::string to_flags(const Policy& policy);

/// Bytes that each tier may hold; the ranks of one host share a machine, so these are per rank.
struct Budgets {
  std::uint64_t gpu_bytes = 0;
  std::uint64_t dram_bytes = 0;
  std::uint64_t ssd_bytes = 0;
  static constexpr auto fields() {
    return std::tuple(field("gpu_bytes", &Budgets::gpu_bytes), field("dram_bytes", &Budgets::dram_bytes),
                      field("ssd_bytes", &Budgets::ssd_bytes));
  }
};

/// What a job's rows ask for beside their likeliest tokens, as far as it takes memory.
struct SamplingShape {
  bool is_wanted = false;            // anything: tokens are drawn, logits are changed, or log-probabilities come along
  std::int32_t max_top = 0;          // alternatives of a token
  std::int32_t max_adjustments = 0;  // tokens of a row whose logits are changed before a choice

  static constexpr auto fields() {
    return std::tuple(field("is_wanted", &SamplingShape::is_wanted), field("max_top", &SamplingShape::max_top),
                      field("max_adjustments", &SamplingShape::max_adjustments));
  }
};

/// The sizes of a job: what decides its memory, and how its rows lie about their mean.
struct JobShape {
  std::int32_t max_prompt_tokens = 0;
  std::int32_t max_new_tokens = 0;  // per row
  std::int32_t max_row_tokens = 0;  // positions of the longest row: prompt + new tokens - 1, the last is never read
  std::int64_t num_rows = 0;
  bool scores = false;  // the log-probability of every token of the prompts is wanted
  SamplingShape sampling = {};
  std::int64_t prompt_tokens = 0;  // of all rows
  std::int64_t new_tokens = 0;
  double new_squares = 0;  // sum of the squares of the rows' new tokens
  /// Of prompt_tokens: in beginnings that an earlier row has, too, as far as rows can share them.
  std::int64_t shared_prompt_tokens = 0;
  /// Rows in flight are not the rows of the job: who makes many tokens is there for long. Sums over all rows, each
  /// counted once for every token it makes (once where it makes none): of that, of its positions and their squares.
  double flight_sweeps = 0;
  double flight_positions = 0;
  double flight_squares = 0;
  double decode_positions = 0;  // in the cache of a row before it reads a token that it made, summed over these tokens

  /// Mean of decode_positions; 0 where no row makes a second token.
  double mean_decode_position() const;
  /// Tokens of a row's prompt, in the mean, that rows of a block which share (`num_prefixes`) do not read themselves.
  double mean_shared_tokens(std::int32_t num_prefixes) const;
  /// Counts `count` rows of so many tokens each.
  void add_rows(std::int32_t prompt, std::int32_t generated, std::int64_t count = 1);

  static constexpr auto fields() {
    return std::tuple(
        field("max_prompt_tokens", &JobShape::max_prompt_tokens), field("max_new_tokens", &JobShape::max_new_tokens),
        field("max_row_tokens", &JobShape::max_row_tokens), field("num_rows", &JobShape::num_rows),
        field("scores", &JobShape::scores), field("sampling", &JobShape::sampling),
        field("prompt_tokens", &JobShape::prompt_tokens), field("new_tokens", &JobShape::new_tokens),
        field("new_squares", &JobShape::new_squares), field("shared_prompt_tokens", &JobShape::shared_prompt_tokens),
        field("flight_sweeps", &JobShape::flight_sweeps), field("flight_positions", &JobShape::flight_positions),
        field("flight_squares", &JobShape::flight_squares), field("decode_positions", &JobShape::decode_positions));
  }
};

}  // namespace flexgen
