#include "run/job_identity.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

/// The checksum of a part of a file, after others. Less is read where the file ends before.
std::uint32_t add_part(std::ifstream& file, std::uint64_t offset_bytes, std::uint64_t size_bytes, std::uint32_t sum) {
  std::vector<char> buffer(std::min<std::uint64_t>(size_bytes, MiB));
  file.clear();
  file.seekg(static_cast<std::streamoff>(offset_bytes));
  for (std::uint64_t left = size_bytes; left > 0 && file;) {
    file.read(buffer.data(), static_cast<std::streamsize>(std::min<std::uint64_t>(left, buffer.size())));
    const auto count = static_cast<std::size_t>(file.gcount());
    sum = checksum({buffer.data(), count}, sum);
    left -= count;
  }
  return sum;
}

/// Configuration and tokenizer, whatever their names: small files of text.
bool is_setting(const fs::path& file) {
  const std::string ending = file.extension().string();
  return (ending == ".json" && !file.filename().string().ends_with(".index.json")) || ending == ".txt";
}

std::uint32_t add_file_of_weights(const fs::path& path, std::uint32_t sum) {
  constexpr std::uint64_t num_samples = 32, sample_bytes = 4 * KiB, head_bytes = 64 * KiB;
  std::ifstream file(path, std::ios::binary);
  const std::uint64_t size = fs::file_size(path);
  sum = add_part(file, 0, head_bytes, sum);
  for (std::uint64_t i = 1; i <= num_samples; ++i)
    sum = add_part(file, size > sample_bytes ? (size - sample_bytes) / num_samples * i : 0, sample_bytes, sum);
  return checksum(fmt::format(" {} ", size), sum);
}

std::uint32_t add_weights(std::vector<fs::path> files, std::uint32_t sum) {
  std::ranges::sort(files);
  for (const fs::path& path : files) sum = add_file_of_weights(path, sum);
  return sum;
}

std::string describe_format(const QuantFormat& format) {
  return format.is_none() ? "no" : fmt::format("{} bits in groups of {}", format.bits, format.group);
}

}  // namespace

std::optional<std::string> describe_content(const std::string& path) {
  if (path == "-" || !fs::is_regular_file(path)) return std::nullopt;
  std::ifstream file(path, std::ios::binary);
  const std::uint64_t size = fs::file_size(path);
  const std::uint32_t sum = add_part(file, 0, size, 0);
  if (file.bad() || !file.is_open())
    throw UserError(ExitCode::file, fmt::format("cannot read '{}'", path), errno_text(errno),
                    "Check the path and its permissions");
  return fmt::format("{} bytes with checksum {:08x}", size, sum);
}

std::string describe_model(const fs::path& directory, const ModelSpec& model) {
  try {
    std::vector<fs::path> settings;
    for (const auto& entry : fs::directory_iterator(directory))
      if (is_setting(entry.path())) settings.push_back(entry.path());
    std::ranges::sort(settings);
    std::uint32_t sum = checksum(fingerprint(model));
    for (const fs::path& path : settings) {
      std::ifstream file(path, std::ios::binary);
      sum = add_part(file, 0, fs::file_size(path), checksum(path.filename().string(), sum));
    }
    sum = add_weights(Checkpoint::open(directory).files(), sum);
    return fmt::format("{} with checksum {:08x}", model.name, sum);
  } catch (const fs::filesystem_error& error) {
    throw UserError(ExitCode::model, "cannot read the model's folder", error.what());
  }
}

std::string describe_weights(const fs::path& directory) {
  try {
    const std::vector<fs::path> files = Checkpoint::open(directory).files();
    return fmt::format("{} files with checksum {:08x}", files.size(), add_weights(files, 0));
  } catch (const fs::filesystem_error& error) {
    throw UserError(ExitCode::model, "cannot read the model's weights", error.what());
  }
}

void add_numeric_policy(const PolicyRequest& policy, JobIdentity& identity) {
  identity["--compress-weight"] = describe_format(policy.weight_format);
  identity["--compress-cache"] = describe_format(policy.cache_format);
  identity["--attn-sparsity"] = fmt::format("{}", policy.attn_sparsity);
}

}  // namespace flexgen
