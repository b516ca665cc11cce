// SPDX-License-Identifier: MIT
// What was active on the newest rows, oldest first: columns in the temporal memory, cells in the classifier.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cells.hpp"
#include "serialize.hpp"

namespace htm {

class History {
 public:
  explicit History(size_t most) : rows_(most) {}

  void push(const Columns& row) {
    if (count_ == rows_.size()) drop(1);
    rows_[count_++].assign(row.begin(), row.end());
  }

  // The storage of dropped rows stays for later ones: no allocation a row.
  void drop(size_t oldest) {
    std::rotate(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(oldest), rows_.end());
    count_ -= oldest;
  }

  void clear() { count_ = 0; }
  size_t size() const { return count_; }
  const Columns& operator[](size_t i) const { return rows_[i]; }
  const Columns& newest() const { return rows_[count_ - 1]; }

  size_t bytes() const {
    size_t total = rows_.capacity() * sizeof(Columns);
    for (const Columns& row : rows_) total += row.capacity() * sizeof(uint16_t);
    return total;
  }

  void save(Writer& out) const {
    out.number(static_cast<uint16_t>(count_));
    for (size_t i = 0; i < count_; ++i) out.ascending(rows_[i]);
  }

  void restore(Reader& in, unsigned columns) {
    count_ = in.number_to<uint16_t>(rows_.size(), "history");
    for (size_t i = 0; i < count_; ++i) rows_[i] = in.ascending(columns, columns - 1, "history");
  }

 private:
  std::vector<Columns> rows_;
  size_t count_ = 0;
};

}  // namespace htm
