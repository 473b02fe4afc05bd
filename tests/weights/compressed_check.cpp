// A folder that --save-compressed wrote against what one thread makes of the same model, file by file. For checkpoints
// of any size: a few layers of the sweep at a time, so that several processes may share the work.
//
//   compressed_check MODEL COMPRESSED [FIRST COUNT]
//
// Exit code 0: every byte is the same; 1: not so; else an error.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "tests/support/scratch_place.hpp"
#include "weights/compressed_checkpoint.hpp"

namespace flexgen::test {
namespace {

bool same_content(const std::filesystem::path& left, const std::filesystem::path& right) {
  if (std::filesystem::file_size(left) != std::filesystem::file_size(right)) return false;
  std::ifstream a(left, std::ios::binary), b(right, std::ios::binary);
  return std::equal(std::istreambuf_iterator<char>(a), {}, std::istreambuf_iterator<char>(b));
}

int check(const std::filesystem::path& model, const std::filesystem::path& compressed, std::size_t first,
          std::size_t count) {
  ModelSpec spec = read_model_spec(model.string());
  spec.head.tied = read_model_spec(compressed.string()).head.tied;
  const QuantFormat format = read_model_spec(compressed.string()).compression;
  const auto source = make_checkpoint_source(Checkpoint::open(model));
  const std::vector<LayerDescription> layers = describe(make_layers(spec, {0, spec.num_layers, true, true}, true));
  const ImageThreads one_thread_whole_layers{1, 1ULL << 40};
  int num_files = 0, num_different = 0;
  for (std::size_t i = first; i < layers.size() && i - first < count; ++i) {
    const ScratchPlace serial(compressed.parent_path());
    write_compressed_layers({&layers[i], 1}, format, *source, serial.path(), one_thread_whole_layers);
    for (const auto& entry : std::filesystem::directory_iterator(serial.path())) {
      ++num_files;
      if (same_content(entry.path(), compressed / entry.path().filename())) continue;
      ++num_different;
      fmt::print("{} differs\n", entry.path().filename().string());
    }
  }
  fmt::print("{} files of {} bits compared with those of one thread, {} differ\n", num_files, format.bits,
             num_different);
  return num_files > 0 && num_different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace flexgen::test

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    std::fputs("usage: compressed_check MODEL COMPRESSED [FIRST COUNT]\n", stderr);
    return 2;
  }
  try {
    const std::size_t first = argc == 5 ? std::strtoull(argv[3], nullptr, 10) : 0;
    return flexgen::test::check(argv[1], argv[2], first, argc == 5 ? std::strtoull(argv[4], nullptr, 10) : SIZE_MAX);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
