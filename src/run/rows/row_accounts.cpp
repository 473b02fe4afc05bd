#include "run/rows/row_accounts.hpp"

#include "base/error.hpp"
#include "job/result.hpp"

namespace flexgen {

void RowAccounts::add(const RowError& error, std::uint64_t num_rows) {
  tally_.add_error(error.code);
  if (writer_) writer_->write(error, format_error(error), {true});
  try {
    limit_.check(num_failed(), num_rows, error.message);
  } catch (const UserError&) {
    if (writer_) {  // what is known by now is worth reading, and the job can go on when it is mended
      writer_->start();
      writer_->pause();
    }
    throw;
  }
}

void RowAccounts::add_unread(const RowError& error, std::uint64_t num_rows) {
  if (on_input_error_) on_input_error_();
  add(error, num_rows);
}

}  // namespace flexgen
