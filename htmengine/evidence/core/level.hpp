// SPDX-License-Identifier: MIT
// Is the mean of the last rows higher or lower than it has been?
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

class Level {
 public:
  explicit Level(unsigned size) : size_(size) {}

  Finding update(const Recent& recent) { return rarity_.update(mean_.update(recent, size_), recent.rounding()); }

  void gap() { mean_.clear(); }

  void save(Writer& out) const {
    mean_.save(out);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    mean_.restore(in);
    rarity_.restore(in);
  }

 private:
  unsigned size_;
  WindowMean mean_;
  TwoSided rarity_;
};

}  // namespace evidence
