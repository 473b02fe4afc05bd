// A table of an HTML page; a wide one scrolls in itself. Cells are plain text, escaped here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

class HtmlTable {
 public:
  enum class Mark : bool { none, binds };  // of a row

  /// @param caption  read aloud
  HtmlTable(std::string_view caption, const std::vector<std::string>& heads);
  /// As many cells as heads.
  void add(const std::vector<std::string>& cells, Mark mark = Mark::none);
  std::string html() const;

 private:
  std::string caption_, head_, rows_;
};

}  // namespace flexgen
