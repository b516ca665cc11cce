// SPDX-License-Identifier: MIT
// An index: for each cell some 32-bit entries.  The cells of a column, which often are active together, have one list.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cells.hpp"
#include "lists.hpp"

namespace htm {

class CellIndex {
 public:
  CellIndex() : place_(kMaxColumns, 0) {}

  // Calls visit(entry) for each entry of these cells.
  template <class Visit>
  void for_each(const ColumnCells& cells, Visit visit) const {
    unsigned place = place_[cells.column];
    if (place == 0) return;
    const uint32_t* entries = lists_.begin(place - 1u);
    const Ends& ends = ends_[place - 1u];
    for (uint64_t rest = cells.cells; rest;) {
      unsigned first = lowest_bit(rest), after = lowest_bit(rest + (uint64_t{1} << first));  // neighbours in one go
      const uint32_t* last = entries + ends[after - 1];
      for (const uint32_t* entry = entries + begin(ends, first); entry != last; ++entry) visit(*entry);
      rest &= ~uint64_t{0} << after;
    }
  }

  void add(uint16_t cell, uint32_t entry) {
    unsigned column = column_place(cell), in_column = cell % kCellsPerColumn;
    Ends& ends = ends_[column];
    lists_.resize(column, lists_.length(column) + 1);
    uint32_t* at = lists_.begin(column) + ends[in_column];
    std::copy_backward(at, lists_.end(column) - 1, lists_.end(column));
    *at = entry;
    for (unsigned i = in_column; i < kCellsPerColumn; ++i) ++ends[i];
  }

  void remove(uint16_t cell, uint32_t entry) {
    unsigned column = column_place(cell), in_column = cell % kCellsPerColumn;
    Ends& ends = ends_[column];
    uint32_t* first = lists_.begin(column);
    uint32_t* at = std::find(first + begin(ends, in_column), first + ends[in_column], entry);
    std::copy(at + 1, lists_.end(column), at);
    lists_.resize(column, lists_.length(column) - 1);
    for (unsigned i = in_column; i < kCellsPerColumn; ++i) --ends[i];
  }

  void reserve(size_t entries) { lists_.reserve(entries); }

  size_t bytes() const {
    return lists_.bytes() + ends_.capacity() * sizeof(Ends) + place_.capacity() * sizeof(uint16_t);
  }

 private:
  using Ends = std::array<uint32_t, kCellsPerColumn>;  //: by cell: where its entries end in the column's list

  static unsigned begin(const Ends& ends, unsigned cell) { return cell ? ends[cell - 1] : 0; }

  unsigned column_place(uint16_t cell) {
    uint16_t& place = place_[column_of(cell)];
    if (place == 0) {
      if (ends_.size() == ends_.capacity()) ends_.reserve(ends_.size() + ends_.size() / 16 + 8);
      ends_.emplace_back();
      lists_.add();
      place = static_cast<uint16_t>(ends_.size());
    }
    return place - 1u;
  }

  std::vector<uint16_t> place_;  //: by column: 1 + its place in what follows, 0 without entries so far
  std::vector<Ends> ends_;
  Lists<uint32_t> lists_;
};

}  // namespace htm
