// A directory for one test, removed with all it holds at the end.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>
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
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace flexgen::test
