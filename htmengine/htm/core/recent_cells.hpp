// SPDX-License-Identifier: MIT
// The 64 source cells that came up last while segments are saved, one after the other: segments that were made on
// the same row have most of their sources in common, so for each segment one bit a recent cell says nearly all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cells.hpp"

namespace htm {

class RecentCells {
 public:
  static constexpr unsigned kMost = 64;
  static constexpr uint8_t kNone = kMost;  // no place

  RecentCells() : place_(kMaxCells, kNone) {}

  bool has(uint16_t cell) const { return place_[cell] != kNone; }
  unsigned place(uint16_t cell) const { return place_[cell]; }
  uint16_t at(unsigned place) const { return cells_[place]; }
  unsigned size() const { return size_; }

  // Takes in a cell that is not among the recent ones; the oldest gives way.
  void add(uint16_t cell) {
    if (size_ == kMost) {
      place_[cells_[oldest_]] = kNone;
    } else {
      ++size_;
    }
    cells_[oldest_] = cell;
    place_[cell] = static_cast<uint8_t>(oldest_);
    oldest_ = (oldest_ + 1) % kMost;
  }

 private:
  std::vector<uint8_t> place_;  //: by cell
  std::array<uint16_t, kMost> cells_{};
  unsigned size_ = 0, oldest_ = 0;
};

}  // namespace htm
