#include "run/model/compressed_model.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "job/file_descriptor.hpp"
#include "model/layer.hpp"
#include "weights/compressed_checkpoint.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* other_files[] = {"vocab.json",
                                       "merges.txt",
                                       "tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "generation_config.json",
                                       "added_tokens.json"};

[[noreturn]] void refuse_write(const fs::path& path, int error_number) {
  throw UserError(ExitCode::file, "cannot write '" + path.string() + "'", errno_text(error_number),
                  "Check the folder given to --save-compressed and the room on its disk");
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) refuse_write(path, errno);
}

// Where the model is written until it is whole: beside the folder, which gets it at one go. What is left in it at the
// end of its life goes.
class UnfinishedFolder {
 public:
  UnfinishedFolder() = default;
  explicit UnfinishedFolder(const fs::path& folder) {
    std::error_code error;
    check_folder_of(folder, "--save-compressed");
    if (fs::exists(folder, error) && (!fs::is_directory(folder, error) || !fs::is_empty(folder, error)))
      throw UserError(ExitCode::file, "the folder '" + folder.string() + "' is not empty",
                      "a compressed model would mix with what is in it", "Name another folder, or start from this one");
    fs::path path = folder.filename().empty() ? folder.parent_path() : folder;
    path += fmt::format(".unfinished-{}", ::getpid());
    if (!fs::create_directory(path, error)) refuse_write(path, error ? error.value() : EEXIST);
    path_ = std::move(path);
  }
  ~UnfinishedFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  UnfinishedFolder(const UnfinishedFolder&) = delete;
  UnfinishedFolder& operator=(const UnfinishedFolder&) = delete;
  UnfinishedFolder(UnfinishedFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  UnfinishedFolder& operator=(UnfinishedFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }

  const fs::path& path() const { return path_; }
  void finish(const fs::path& folder) {
    std::error_code error;
    fs::rename(path_, folder, error);
    if (error) refuse_write(folder, error.value());
    path_.clear();
  }

 private:
  fs::path path_;  // empty: there is none
};

// config.json last: a folder without it is no model, so that what a killed run left is never taken for one.
void write_model_files(const fs::path& from, const fs::path& to, const QuantFormat& format, const json& weight_map,
                       bool tied_head) {
  write_text(to / "model.safetensors.index.json",
             json{{"metadata", json::object()}, {"weight_map", weight_map}}.dump(1));
  for (const char* name : other_files) {
    std::error_code error;
    if (fs::exists(from / name)) fs::copy_file(from / name, to / name, error);
    if (error) refuse_write(to / name, error.value());
  }
  std::ifstream file(from / "config.json");
  json config = json::parse(file);
  config["tie_word_embeddings"] = tied_head;  // a head of its own is kept, whatever the config said
  config["flexgen_dist"] = {{"version", 1}, {"weight_bits", format.bits}, {"group", format.group}};
  write_text(to / "config.json", config.dump(1));
}

}  // namespace

std::shared_ptr<WeightSource> open_weights(const fs::path& directory, const ModelSpec& model) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  if (!model.compression.is_none()) return make_compressed_source(checkpoint, model.compression);
  return make_checkpoint_source(checkpoint);
}

fs::path save_compressed(const ModelChoice& choice, const QuantFormat& format, const fs::path& directory,
                         ModelSpec& model, Communicator& ranks) {
  if (choice.save_compressed.empty()) return directory;
  fs::path folder = choice.save_compressed;
  UnfinishedFolder unfinished;  // rank 0's
  ranks.agree_on_error([&] {
    if (!model.compression.is_none())
      throw UserError(ExitCode::usage, "--save-compressed has nothing to compress", "the model is compressed already");
    if (ranks.rank() == 0) unfinished = UnfinishedFolder(folder);
  });
  const fs::path target = ranks.broadcast(unfinished.path().string());
  std::string own;
  ranks.agree_on_error([&] {
    const SliceBounds bounds = balanced_slices(model, ranks.size())[static_cast<std::size_t>(ranks.rank())];
    const std::shared_ptr<WeightSource> source = open_weights(directory, model);
    const std::vector<LayerDescription> layers = describe(make_layers(model, bounds, true));
    source->require(layers);
    own = json(write_compressed_layers(layers, format, *source, target)).dump();
  });
  json weight_map = json::object();
  for (const std::string& part : ranks.all_gather(own)) weight_map.update(json::parse(part));
  ranks.agree_on_error([&] {
    if (ranks.rank() != 0) return;
    write_model_files(directory, target, format, weight_map, model.head.tied);
    unfinished.finish(folder);
  });
  log::info(fmt::format("compressed model saved in {}", folder.string()));
  model.compression = format;
  return folder;
}

}  // namespace flexgen
