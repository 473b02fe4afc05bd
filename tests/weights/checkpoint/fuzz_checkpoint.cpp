// A small mutational fuzzer that runs with the tests: fixed seeds, so that every run walks the same mutants in the
// same order (a slow machine only gets less far).
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/weights/checkpoint/checkpoint_builders.hpp"
#include "tests/weights/checkpoint/fuzz_target.hpp"
#include "weights/checkpoint/zip_directory.hpp"

namespace flexgen::checkpoint {
namespace {

struct Corpus {
  FuzzFormat format;
  std::vector<std::string> files;
};

std::string load(const std::string& name) {
  std::ifstream stream(std::string(FLEXGEN_SOURCE_DIR) + "/tests/data/checkpoints/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string pickle_of(const std::string& archive) {
  const MemoryBytes file(bytes_of(archive), "archive");
  const ZipDirectory directory(file);
  for (const ZipRecord& record : directory.records()) {
    if (record.name.ends_with("/data.pkl")) return std::string(as_text(directory.read(record, max_pickle_bytes)));
  }
  return {};
}

std::vector<Corpus> make_corpora() {
  std::vector<std::string> archives;
  for (const char* name :
       {"bin_mixed", "bin_state_dict", "bin_parameters", "bin_protocol4", "bin_nested", "bin_views"}) {
    archives.push_back(load(std::string(name) + "/pytorch_model.bin"));
  }
  std::vector<std::string> pickles;
  for (const std::string& archive : archives) pickles.push_back(pickle_of(archive));
  archives.push_back(torch_file(pickle_state_dict({}), {.zip64 = true, .extra_bytes = 9}));
  return {{FuzzFormat::safetensors,
           {load("safetensors_single/model.safetensors"), load("safetensors_sharded/model-00001-of-00002.safetensors"),
            safetensors_file(R"({"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}})", 8)}},
          {FuzzFormat::torch_archive, std::move(archives)},
          {FuzzFormat::pickle, std::move(pickles)},
          {FuzzFormat::weight_map, {load("bin_sharded/pytorch_model.bin.index.json")}}};
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string mutate(const std::vector<std::string>& corpus) {
    std::string text = corpus[below(corpus.size())];
    const std::size_t num_mutations = 1 + below(4);
    for (std::size_t i = 0; i < num_mutations; ++i) mutate_once(text, corpus);
    return text;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : static_cast<std::size_t>(random_() % limit); }

  void mutate_once(std::string& text, const std::vector<std::string>& corpus) {
    if (text.empty()) return;
    const std::size_t at = below(text.size());
    switch (below(8)) {
      case 0: text[at] = static_cast<char>(text[at] ^ (1 << below(8))); break;
      case 1: text[at] = static_cast<char>(random_()); break;
      case 2: text.resize(at); break;
      case 3: text.erase(at, 1 + below(16)); break;
      case 4: text.insert(at, text.substr(below(text.size()), 1 + below(32))); break;
      case 5: overwrite_number(text, at); break;
      case 6: {
        const std::string& other = corpus[below(corpus.size())];
        text = text.substr(0, at) + other.substr(below(other.size()));
        break;
      }
      default: overwrite_digit(text, at); break;
    }
  }

  /// Length and offset fields: edge values of every width.
  void overwrite_number(std::string& text, std::size_t at) {
    static constexpr std::uint64_t edges[] = {
        0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x100000000, 0x7fffffffffffffff, ~0ull, ~0ull - 64};
    const std::size_t width = std::size_t{1} << below(4);
    const std::string number = little_endian(edges[below(std::size(edges))], width);
    text.replace(at, width, number);
  }

  /// Numbers in JSON: the next digit becomes another one, or a huge number.
  void overwrite_digit(std::string& text, std::size_t at) {
    const std::size_t digit = text.find_first_of("0123456789", at);
    if (digit == std::string::npos) return;
    static constexpr const char* numbers[] = {
        "0", "7", "-1", "4294967296", "9223372036854775807", "18446744073709551615", "1e9", "[", "{", "\"", ","};
    text.replace(digit, 1, numbers[below(std::size(numbers))]);
  }

  std::mt19937_64 random_;
};

TEST(FuzzCheckpoint, EveryMutantIsReadOrRefused) {
  const std::vector<Corpus> corpora = make_corpora();
  for (const Corpus& corpus : corpora) {
    for (const std::string& file : corpus.files) ASSERT_TRUE(fuzz_one(corpus.format, bytes_of(file)));
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(4);
  constexpr std::uint64_t max_num_seeds = 500'000;
  std::uint64_t num_accepted = 0;
  std::uint64_t seed = 0;
  for (; seed < max_num_seeds && std::chrono::steady_clock::now() < deadline; ++seed) {
    const Corpus& corpus = corpora[seed % corpora.size()];
    const std::string mutant = Mutator(seed).mutate(corpus.files);
    try {
      num_accepted += fuzz_one(corpus.format, bytes_of(mutant));
    } catch (const std::exception& error) {
      FAIL() << "seed " << seed << ": " << error.what();
    }
  }
  // Both outcomes must be common, or the mutants test nothing.
  EXPECT_GT(seed, 1000u);
  EXPECT_GT(num_accepted, seed / 50);
  EXPECT_LT(num_accepted, seed / 2);
}

}  // namespace
}  // namespace flexgen::checkpoint
