#include "run/model/model_directory.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
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
    ModelChoice choice;
    choice.name = model;
    choice.path = path;
    return find_model(choice, shape_is_enough);
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

// The cache of the Hugging Face hub: a folder per model, snapshots by commit, refs that name them.
class FindInHubCache : public FindModel {
 protected:
  static constexpr const char* root = "hub/models--facebook--opt-125m";
  void reference(const std::string& commit) {
    fs::create_directories(fs::path(root) / "refs");
    std::ofstream(fs::path(root) / "refs" / "main") << commit;
  }
  static std::string refusal(const std::string& model) {
    try {
      find(model, "");
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::model);
      return error.what();
    }
    return "";
  }
};

TEST_F(FindInHubCache, TheRootStandsForTheSnapshotOfMain) {
  make(fs::path(root) / "snapshots/aaa");
  make(fs::path(root) / "snapshots/bbb");
  reference("bbb\n");
  for (const char* given : {"", "/", "/snapshots", "/snapshots/", "/snapshots/bbb"})
    EXPECT_TRUE(fs::equivalent(find(std::string(root) + given, ""), fs::path(root) / "snapshots/bbb")) << given;
  EXPECT_TRUE(fs::equivalent(find("facebook/opt-125m", "hub"), fs::path(root) / "snapshots/bbb"));
  EXPECT_EQ(model_name(find(root, ""), "bbb"), "opt-125m");
  EXPECT_EQ(model_name("here/tiny", "tiny"), "tiny");
}

TEST_F(FindInHubCache, WithoutMainOneSnapshotIsEnough) {
  make(fs::path(root) / "snapshots/aaa");
  fs::create_directories(fs::path(root) / "snapshots/half");
  EXPECT_TRUE(fs::equivalent(find(root, ""), fs::path(root) / "snapshots/aaa"));
  make(fs::path(root) / "snapshots/bbb");
  EXPECT_NE(refusal(root).find("2 snapshots"), std::string::npos) << refusal(root);
}

TEST_F(FindInHubCache, AReferenceThatLeadsNowhereIsNamed) {
  make(fs::path(root) / "snapshots/aaa");
  for (const char* commit : {"ccc", "", "..", "../snapshots/aaa"}) {
    reference(commit);
    EXPECT_NE(refusal(root).find("refs/main"), std::string::npos) << commit << ": " << refusal(root);
  }
}

TEST_F(FindInHubCache, AnAdapterAloneIsRefused) {
  make("tuned");
  const auto write = [](const char* name, const char* text) { std::ofstream(fs::path("tuned") / name) << text; };
  write("adapter_config.json", R"({"base_model_name_or_path": "facebook/opt-6.7b"})");
  for (const char* part : {"adapter", "'facebook/opt-6.7b'", "merge_and_unload"})
    EXPECT_NE(refusal("tuned").find(part), std::string::npos) << refusal("tuned");
  fs::remove("tuned/config.json");
  EXPECT_NE(refusal("tuned").find("adapter"), std::string::npos) << refusal("tuned");
  make("tuned");
  write("model.safetensors", "");
  EXPECT_TRUE(fs::equivalent(find("tuned", ""), "tuned"));
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
}  // namespace flexgen::test
