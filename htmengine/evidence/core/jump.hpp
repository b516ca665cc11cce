// SPDX-License-Identifier: MIT
// The mean of the last values less the mean of as many before: night by day.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// It is made from sums, which are exact for counts: equal jumps tie.
class Jump {
 public:
  Finding update(const Recent& recent) {
    auto plain = [](double value) { return value; };
    short_.update(recent, kJump, plain);
    long_.update(recent, 2 * kJump, plain);
    if (recent.rows() < 2 * kJump) return {};
    return rarity_.update((2 * short_.sum() - long_.sum()) / kJump);
  }

  void gap() {
    short_.clear();
    long_.clear();
  }

  void save(Writer& out) const {
    short_.save(out);
    long_.save(out);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    short_.restore(in);
    long_.restore(in);
    rarity_.restore(in);
  }

 private:
  WindowMean short_, long_;
  TwoSided rarity_;
};

}  // namespace evidence
