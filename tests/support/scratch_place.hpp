// A directory for one test, removed with all it holds at the end.
#pragma once

#include <stdlib.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace flexgen::test {

class ScratchPlace {
 public:
  explicit ScratchPlace(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "flexgen-test-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a test directory in " + parent.string());
    path_ = name;
  }
  ~ScratchPlace() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchPlace(const ScratchPlace&) = delete;
  ScratchPlace& operator=(const ScratchPlace&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  /// The name of a file in it, be it there or not.
  std::string file(std::string_view name) const { return (path_ / name).string(); }
  /// Writes a file and returns its name.
  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    return file(name);
  }
  std::size_t num_entries() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

/// What a file holds; nothing where there is none.
inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace flexgen::test
