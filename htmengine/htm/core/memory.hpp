// SPDX-License-Identifier: MIT
// What the model needs of a temporal memory, and the parameters of both kinds.
#pragma once

#include <cstdint>
#include <vector>

#include "cells.hpp"
#include "random.hpp"
#include "serialize.hpp"

namespace htm {

struct TemporalMemoryParams {
  unsigned columns = 2048;
  unsigned cells_per_column = 32;
  unsigned activation_threshold = 13;  // active connected synapses that make a segment active
  unsigned min_threshold = 10;         // active synapses, connected or not, that make it match in learning
  unsigned new_synapses = 20;          // active synapses that a segment grows to on one row
  double initial_permanence = 0.21;
  double connected_permanence = 0.50;
  double increment = 0.10;
  double decrement = 0.10;
  unsigned max_synapses = 32;     // of a segment
  unsigned max_segments = 16000;  // of the memory
  unsigned pam_length = 3;        // rows that learning may be out of sequence
  unsigned max_sequence = 32;     // rows after which learning starts over; 0: never
  unsigned max_inference = 0;     // earlier rows that inference can go back to; 0: it bursts instead
  unsigned max_learning = 5;      // earlier rows that learning can go back to
  double predicted_segment_decrement = 0.0;
  uint64_t seed = 1960;
};

class TemporalMemory {
 public:
  virtual ~TemporalMemory() = default;

  // One row: the raw score of these active columns, 0 (all expected) .. 1; then infers from them and, with
  // `learning`, learns.
  virtual double row(const Columns& active, bool learning) = 0;

  // The row's active cells for the classifier; see context_of().
  virtual void context(Cells& cells) const = 0;

  virtual unsigned segments() const = 0;
  virtual size_t synapses() const = 0;
  virtual size_t bytes() const = 0;
  virtual void save(Writer& out) const = 0;
  virtual void restore(Reader& in) = 0;
};

inline uint32_t all_cells_of(const TemporalMemoryParams& params) {
  return static_cast<uint32_t>((uint64_t{1} << params.cells_per_column) - 1);
}

// The active cells; a column with more than `most` of them says nothing of its context and counts as its first cell.
inline void context_of(const std::vector<ColumnCells>& active, unsigned most, Cells& cells) {
  cells.clear();
  for (const ColumnCells& c : active)
    for (uint32_t rest = popcount(c.cells) > most ? 1 : c.cells; rest; rest &= rest - 1)
      cells.push_back(cell_number(c.column, lowest_bit(rest)));
}

inline void save_columns(const std::vector<ColumnCells>& state, Writer& out) {
  Columns columns;
  for (const ColumnCells& c : state) columns.push_back(c.column);
  out.ascending(columns);
  for (const ColumnCells& c : state) out.number(c.cells);
}

inline std::vector<ColumnCells> restore_columns(Reader& in, unsigned limit, uint32_t all_cells) {
  Columns columns = in.ascending(limit, limit - 1, "column numbers");
  std::vector<ColumnCells> state;
  for (uint16_t column : columns) {
    uint32_t cells = in.number_to<uint32_t>(all_cells, "cells of a column");
    require(cells != 0, "cells of a column");
    state.push_back({column, cells});
  }
  return state;
}

}  // namespace htm
