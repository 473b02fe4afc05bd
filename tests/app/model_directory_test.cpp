#include "app/model_directory.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

class FindModel : public ::testing::Test {
 protected:
  FindModel() : before_(fs::current_path()) { fs::current_path(place_.path()); }
  ~FindModel() override { fs::current_path(before_); }

  void make(const fs::path& folder) {
    fs::create_directories(place_.path() / folder);
    std::ofstream(place_.path() / folder / "config.json") << "{}";
  }

  static fs::path find(const std::string& model, const std::string& path, bool shape_is_enough = false) {
    Options options;
    options.model = model;
    options.path = path;
    return find_model(options, shape_is_enough);
  }

 private:
  test::ScratchPlace place_;
  fs::path before_;
};

TEST_F(FindModel, AsADirectory) {
  make("here/tiny");
  EXPECT_TRUE(fs::equivalent(find("here/tiny", ""), "here/tiny"));
  EXPECT_TRUE(fs::equivalent(find("here/tiny/", ""), "here/tiny"));
  EXPECT_TRUE(fs::equivalent(find(fs::absolute("here/tiny").string(), ""), "here/tiny"));
}

TEST_F(FindModel, ByNameUnderPath) {
  make("weights/opt-1.3b");
  for (const char* name : {"opt-1.3b", "facebook/opt-1.3b", "facebook/opt-1.3b/"})
    EXPECT_TRUE(fs::equivalent(find(name, "weights"), "weights/opt-1.3b")) << name;
}

TEST_F(FindModel, ADirectoryGoesBeforePath) {
  make("opt-x");
  make("weights/opt-x");
  EXPECT_TRUE(fs::equivalent(find("opt-x", "weights"), "opt-x"));
}

TEST_F(FindModel, ShapesOnlyWhenAShapeIsEnough) {
  make("configs/models/opt-9b");
  EXPECT_TRUE(fs::equivalent(find("facebook/opt-9b", "", true), "configs/models/opt-9b"));
  EXPECT_THROW(find("facebook/opt-9b", "", false), UserError);
}

TEST_F(FindModel, NothingFoundListsThePlaces) {
  fs::create_directories("weights/opt-1.3b");  // without config.json
  try {
    find("facebook/opt-1.3b", "weights", true);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    const std::string text = error.what();
    for (const char* part : {"'facebook/opt-1.3b'", "'facebook/opt-1.3b/config.json'", "'weights/opt-1.3b/config.json'",
                             "configs/models/opt-1.3b/config.json"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  }
}

}  // namespace
}  // namespace flexgen
