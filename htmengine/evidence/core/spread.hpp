// SPDX-License-Identifier: MIT
// Is the standard deviation of the last rows larger or smaller (a flat line) than it has been?  On a log scale.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// The metric's first value, which keeps the squares small, and the floor under which spreads are alike.
class SpreadScale {
 public:
  void update(double value) {
    if (rows_++ == 0) first_ = value;
    if (early_.rows() < kFloorRows) {
      early_.update(value - first_);
      floor_ = kFloorShare * std::sqrt(early_.variance());
    }
  }

  uint32_t rows() const { return rows_; }
  double first() const { return first_; }
  double floor() const { return floor_; }

  void save(Writer& out) const {
    out.varint(rows_);
    out.real(first_);
    early_.save(out);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    first_ = finite(in);
    early_.restore(in);
    floor_ = kFloorShare * std::sqrt(early_.variance());
  }

 private:
  uint32_t rows_ = 0;  // values of the metric
  double first_ = 0.0;
  Welford early_;
  double floor_ = 0.0;
};

class Spread {
 public:
  Finding update(const Recent& recent, const SpreadScale& scale) {
    double first = scale.first();
    double mean = mean_.update(recent, kSpread, [first](double value) { return value - first; });
    double square =
        square_.update(recent, kSpread, [first](double value) { return (value - first) * (value - first); });
    // A window that fills looks flatter than any flat line.
    if (scale.rows() < kSpreadLeast || recent.rows() < kSpread) return {};
    double deviation = std::sqrt(std::max(square - mean * mean, 0.0));
    return rarity_.update(std::log(deviation + scale.floor() + kSpreadFloor));
  }

  void gap() {
    mean_.clear();
    square_.clear();
  }

  void save(Writer& out) const {
    mean_.save(out);
    square_.save(out);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    mean_.restore(in);
    square_.restore(in);
    rarity_.restore(in);
  }

 private:
  WindowMean mean_, square_;
  TwoSided rarity_;
};

}  // namespace evidence
