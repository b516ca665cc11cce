// SPDX-License-Identifier: MIT
// Is the mean of the last rows higher or lower than it has been?
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

class Level {
 public:
  explicit Level(unsigned size) : size_(size) {}

  Finding update(const Recent& recent) {
    double mean = mean_.update(recent, size_);
    // A mean of fewer values varies more: beside those of whole windows it would be the highest ever.
    if (!recent.reaches(size_)) return {};
    return rarity_.update(mean, recent.rounding());
  }

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
