#include "run/rows/row_errors.hpp"

#include "base/error.hpp"
#include "job/result.hpp"

namespace flexgen {

void RowErrors::add(const RowError& error, std::uint64_t num_rows) {
  tally_.add_error(error.code);
  if (writer_) writer_->write(error, format_error(error), {true});
  try {
    limit_.check(count(), num_rows, error.message);
  } catch (const UserError&) {
    if (writer_) writer_->start();  // what is known by now is worth reading
    throw;
  }
}

void RowErrors::add_unread(const RowError& error, std::uint64_t num_rows) {
  if (on_input_error_) on_input_error_();
  add(error, num_rows);
}

}  // namespace flexgen
