// SPDX-License-Identifier: MIT
// The five minutes that fill: rows that come faster are judged together.
#pragma once

#include "pace.hpp"

namespace evidence {

struct Bin {
  bool open = false;
  int64_t place = 0;  // five minutes, counted from 1970
  double sum = 0.0;   // of its values
  uint32_t values = 0;
  double sequence = 0.0;  // the largest decades of the sequence

  int64_t begin() const { return place * kBin; }

  void put(double value, double decades) {
    open = true;
    sequence = std::max(sequence, decades);
    if (!std::isfinite(value)) return;
    sum += value;
    ++values;
  }

  void save(Writer& out) const {
    out.number(static_cast<uint8_t>(open));
    if (!open) return;
    out.number(place);
    out.real(sum);
    out.varint(values);
    out.real(sequence);
  }

  void restore(Reader& in) {
    open = in.number_to<uint8_t>(1, "neither yes nor no");
    if (!open) return;
    place = in.number<int64_t>();
    require(std::abs(place / 2) <= kLatest / kBin, "an impossible time");
    sum = finite(in);
    values = in.varint();
    sequence = finite(in);
    require(sequence >= 0.0 && sequence <= kCap, "impossible decades");
  }
};

}  // namespace evidence
