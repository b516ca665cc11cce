// SPDX-License-Identifier: MIT
// Working memory of a thread: models are many, and what they need only during a row they share.
#pragma once

#include <cstdint>
#include <vector>

#include "cells.hpp"

namespace htm {

// What one thread needs while it computes a row, for any model: between rows it holds nothing.
struct Scratch {
  CellSet previous, winners;  //: empty between uses
  CellSet wanted;             // cells whose segments are counted
  const CellSet all{~uint32_t{0}};
  std::vector<uint64_t> activity;  //: by palette: which of its cells are active; zero between uses
  std::vector<uint8_t> places = std::vector<uint8_t>(65536, 0);    //: by cell, in the palette that is spread out
  std::vector<uint8_t> counters = std::vector<uint8_t>(65536, 0);  //: by palette; zero between uses
  std::vector<uint16_t> found;                                     // palettes
  Cells chosen, sources;       // where new synapses come from, where all of a segment's come from
  std::vector<uint8_t> order;  // of a segment's synapses

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

}  // namespace htm
