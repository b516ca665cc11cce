// SPDX-License-Identifier: MIT
// For how many values has nothing changed?  A frozen sensor.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

class Run {
 public:
  Finding update(const Recent& recent) {
    rows_ = recent.rows() > 1 && recent.back(0) == recent.back(1) ? rows_ + 1 : 0;
    return {rarity_.update(std::log1p(static_cast<double>(rows_))), Side::none};
  }

  void save(Writer& out) const {
    out.varint(rows_);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    rarity_.restore(in);
  }

 private:
  uint32_t rows_ = 0;  // since the value changed
  Rarity rarity_;
};

}  // namespace evidence
