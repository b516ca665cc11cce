// SPDX-License-Identifier: MIT
// What one kind of evidence says of a row.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../../htm/core/serialize.hpp"

namespace evidence {

using htm::Reader;
using htm::refuse;
using htm::require;
using htm::Writer;

// The side on which a row is unusual; kinds.py has the same numbers.
enum class Side : uint8_t { none, up, down, missing_peak, missing_trough };

struct Finding {
  double decades = 0.0;
  Side side = Side::none;

  // The stronger of two; this one if they are equal.
  void take(double other, Side side_of_other) {
    if (other > decades) *this = {other, side_of_other};
  }
};

// One more element of an array that never has more than `most`: it has room for no more either.
template <class T>
void append(std::vector<T>& to, const T& value, size_t most) {
  if (to.size() == to.capacity()) to.reserve(std::min(most, 2 * to.size() + 8));
  to.push_back(value);
}

inline double finite(Reader& in) {
  double value = in.real();
  require(std::isfinite(value), "a number that is not finite");
  return value;
}

}  // namespace evidence
