// SPDX-License-Identifier: MIT
// For how many values has nothing changed?  A frozen sensor.
#pragma once

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// A run has to be rare in two ways: longer than the metric's runs were, and longer than repeats come by chance.  Of a
// metric whose values have few digits neighbours are equal now and then, and its first such pair is no frozen sensor.
class Run {
 public:
  Finding update(const Recent& recent) {
    bool repeats = recent.rows() > 1 && recent.back(0) == recent.back(1);
    length_ = repeats ? length_ + 1 : 0;
    double decades = std::min(rarity_.update(std::log1p(static_cast<double>(length_))), length_ * decades_a_repeat());
    ++values_;
    if (repeats) ++repeats_;
    return {decades, Side::none};
  }

  void save(Writer& out) const {
    out.varint(length_);
    out.varint(values_);
    out.varint(repeats_);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    length_ = in.varint();
    values_ = in.varint();
    repeats_ = in.varint();
    require(length_ <= repeats_ && repeats_ <= values_, "more repeats than values");
    rarity_.restore(in);
  }

 private:
  // By the share of repeats so far, as if one in two values before the first had been one (Laplace's rule).
  double decades_a_repeat() const { return std::log10((values_ + 2.0) / (repeats_ + 1.0)); }

  uint32_t length_ = 0;                // repeats since the value changed
  uint32_t values_ = 0, repeats_ = 0;  // so far
  Rarity rarity_;
};

}  // namespace evidence
