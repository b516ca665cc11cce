// SPDX-License-Identifier: MIT
// Working memory of a thread: models are many, and what they need only during a row they share.
#pragma once

#include <cstdint>
#include <vector>

#include "cells.hpp"

namespace htm {

// What one thread needs while it computes a row, for any model: between rows it holds nothing.
struct Scratch {
  std::vector<uint8_t> counters = std::vector<uint8_t>(65536 + 64, 0);  //: by segment; zero between uses
  CellSet active, previous;                                            //: empty between uses
  Cells chosen;                 // where new synapses come from
  std::vector<uint8_t> order;   // of a segment's synapses
  std::vector<uint16_t> words;  // of an array that is being packed

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

}  // namespace htm
