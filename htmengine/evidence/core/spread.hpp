// SPDX-License-Identifier: MIT
// Is the standard deviation of the last rows larger or smaller (a flat line) than it has been?  On a log scale.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// What a metric's spreads are measured by: its first change, and the floor under which they are alike.
class SpreadScale {
 public:
  void update(double value) {
    if (rows_++ == 0) first_ = value;
    if (change_ == 0.0 && std::fabs(value - first_) >= kNearest) change_ = std::fabs(value - first_);
    if (early_.rows() < kFloorRows) early_.update(value - first_);
    measure();
  }

  uint32_t rows() const { return rows_; }

  // A standard deviation in the metric's own unit, on a log scale.
  double height(double deviation) const {
    return change_ > 0.0 ? std::log((deviation + floor_) / change_) : std::log(kChangeShare);
  }

  void save(Writer& out) const {
    out.varint(rows_);
    out.real(first_);
    out.real(change_);
    early_.save(out);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    first_ = finite(in);
    change_ = finite(in);
    require(change_ == 0.0 || change_ >= kNearest, "a change that is none");
    early_.restore(in);
    measure();
  }

 private:
  void measure() { floor_ = std::max(kFloorShare * std::sqrt(early_.variance()), kChangeShare * change_); }

  uint32_t rows_ = 0;                  // values of the metric
  double first_ = 0.0, change_ = 0.0;  // the first value, and the first distance from it; 0: no change so far
  Welford early_;
  double floor_ = 0.0;
};

class Spread {
 public:
  Finding update(const Recent& recent, const SpreadScale& scale) {
    // A window that fills looks flatter than any flat line.
    if (scale.rows() < kSpreadLeast || recent.rows() < kSpread) return {};
    return rarity_.update(scale.height(recent.deviation(kSpread)), kRounding);
  }

  void save(Writer& out) const { rarity_.save(out); }
  void restore(Reader& in) { rarity_.restore(in); }

 private:
  TwoSided rarity_;
};

}  // namespace evidence
