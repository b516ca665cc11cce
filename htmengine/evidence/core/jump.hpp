// SPDX-License-Identifier: MIT
// The mean of the last values less the mean of as many before: night by day.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

class Jump {
 public:
  Finding update(const Recent& recent) {
    if (recent.rows() < 2 * kJump) return {};
    return rarity_.update((recent.sum(kJump) - recent.sum(kJump, kJump)) / kJump, recent.rounding());
  }

  void save(Writer& out) const { rarity_.save(out); }
  void restore(Reader& in) { rarity_.restore(in); }

 private:
  TwoSided rarity_;
};

}  // namespace evidence
