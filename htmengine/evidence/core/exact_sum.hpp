// SPDX-License-Identifier: MIT
// The sum of some doubles, rounded once (Shewchuk 1997): whatever their order, the result is the same.
#pragma once

#include <cmath>
#include <utility>

namespace evidence {

class ExactSum {
 public:
  void add(double x) {
    unsigned kept = 0;
    for (unsigned i = 0; i < parts_used_; ++i) {
      double part = parts_[i];
      if (std::fabs(x) < std::fabs(part)) std::swap(x, part);
      double sum = x + part;
      double lost = part - (sum - x);
      if (lost != 0.0) parts_[kept++] = lost;
      x = sum;
    }
    parts_[kept] = x;
    parts_used_ = kept + 1;
  }

  double rounded() const {
    if (parts_used_ == 0) return 0.0;
    unsigned i = parts_used_ - 1;
    double sum = parts_[i], lost = 0.0;
    while (i > 0 && lost == 0.0) {
      double before = sum, part = parts_[--i];
      sum = before + part;
      lost = part - (sum - before);
    }
    // Halfway between two doubles, the parts that are left decide.
    if (i > 0 && lost != 0.0 && (lost < 0.0) == (parts_[i - 1] < 0.0)) {
      double twice = 2.0 * lost, other = sum + twice;
      if (twice == other - sum) sum = other;
    }
    return sum;
  }

 private:
  double parts_[64];  // without overlap, the smallest first: a double has room for 40
  unsigned parts_used_ = 0;
};

}  // namespace evidence
