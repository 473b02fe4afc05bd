// From a model folder to its shape: config.json is read by the family that it names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spec/model_spec.hpp"

namespace flexgen {

/// Parses the text of a config.json. Architectures that we do not run are refused by name, as is a value that we
/// cannot honour; all as UserError (model) naming `where`.
ModelSpec parse_model_spec(std::string_view config_json, const std::string& where);

/// Reads DIR/config.json, and the end tokens from DIR/generation_config.json where that is there. Throws UserError
/// (model).
ModelSpec read_model_spec(const std::string& model_dir);

/// What the files of DIR ask for and nothing honours, a sentence each, as a user reads it: about the choice of tokens,
/// and about the model itself (members of config.json that nothing reads). Throws UserError (model).
std::vector<std::string> describe_unread_wishes(const std::string& model_dir);
std::vector<std::string> describe_unread_members(const std::string& model_dir);

}  // namespace flexgen
