// SPDX-License-Identifier: MIT
// The segments of each cell, to look up what one column expects.  They are lists, in each of which a segment that was
// found moves to the front: where one of a cell's segments says enough, the first one mostly does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cells.hpp"

namespace htm {

class CellSegments {
 public:
  CellSegments() : place_(kMaxColumns, 0) {}

  void add(uint16_t cell, uint16_t segment) {
    if (segment >= next_.size()) {
      if (segment >= next_.capacity()) next_.reserve(segment + segment / 16 + 64);
      next_.resize(segment + size_t{1}, kNone);
    }
    uint16_t& first = firsts_of(column_of(cell))[cell % kCellsPerColumn];
    next_[segment] = first;
    first = segment;
  }

  void remove(uint16_t cell, uint16_t segment) {
    uint16_t* link = &firsts_of(column_of(cell))[cell % kCellsPerColumn];
    while (*link != segment) link = &next_[*link];
    *link = next_[segment];
  }

  // The column's cells that have a segment with wanted(segment), one bit each.  A cell's other segments are not
  // looked at then.  Before that, soon(segment) is called where a segment's turn is near.
  template <class Wanted, class Soon>
  uint32_t cells_with(unsigned column, Wanted wanted, Soon soon) {
    if (place_[column] == 0) return 0;
    uint32_t cells = 0;
    uint16_t* first = firsts_of(column);
    for (unsigned cell = 0; cell < kCellsPerColumn; ++cell) {
      unsigned later = cell + kCellsAhead;
      if (later < kCellsPerColumn && first[later] != kNone) soon(first[later]);
      if (find(first[cell], wanted)) cells |= uint32_t{1} << cell;
    }
    return cells;
  }

  size_t bytes() const { return (place_.capacity() + firsts_.capacity() + next_.capacity()) * sizeof(uint16_t); }

 private:
  static constexpr uint16_t kNone = 65535;   // no segment: there are at most 65,535
  static constexpr unsigned kCellsAhead = 8;  // about as long as memory takes

  uint16_t* firsts_of(unsigned column) {
    uint16_t& place = place_[column];
    if (place == 0) {
      if (firsts_.size() == firsts_.capacity()) firsts_.reserve(firsts_.size() + firsts_.size() / 8 + 8 * kCellsPerColumn);
      firsts_.resize(firsts_.size() + kCellsPerColumn, kNone);
      place = static_cast<uint16_t>(firsts_.size() / kCellsPerColumn);
    }
    return &firsts_[(place - size_t{1}) * kCellsPerColumn];
  }

  // Whether one of the segments from `first` on is wanted; it is the first one from now on.
  template <class Wanted>
  bool find(uint16_t& first, Wanted wanted) {
    for (uint16_t* link = &first; *link != kNone; link = &next_[*link]) {
      uint16_t segment = *link;
      if (!wanted(segment)) continue;
      *link = next_[segment];
      next_[segment] = first;
      first = segment;
      return true;
    }
    return false;
  }

  std::vector<uint16_t> place_;   //: by column: 1 + where its 32 lists are, 0 without any
  std::vector<uint16_t> firsts_;  // 32 for each column that has segments: the list's first one
  std::vector<uint16_t> next_;    //: by segment: the next one of its cell
};

}  // namespace htm
