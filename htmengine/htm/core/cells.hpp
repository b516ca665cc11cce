// SPDX-License-Identifier: MIT
// Columns, cells and sets of cells, as both temporal memories name them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace htm {

using Columns = std::vector<uint16_t>;  // ascending column numbers
using Cells = std::vector<uint16_t>;    // cell numbers: column * 32 + cell in the column

constexpr unsigned kCellBits = 5;
constexpr unsigned kCellsPerColumn = 1u << kCellBits;  // of the numbering; a memory may use fewer
constexpr unsigned kMaxCells = 65536;
constexpr unsigned kMaxColumns = kMaxCells / kCellsPerColumn;

inline uint16_t cell_number(unsigned column, unsigned cell) {
  return static_cast<uint16_t>(column << kCellBits | cell);
}
inline unsigned column_of(uint16_t cell) { return cell >> kCellBits; }
inline uint32_t bit_of(uint16_t cell) { return uint32_t{1} << (cell & (kCellsPerColumn - 1)); }

// The cells of a column that are in some state, one bit each.
struct ColumnCells {
  uint16_t column;
  uint32_t cells;
};

inline ColumnCells only(uint16_t cell) { return {static_cast<uint16_t>(column_of(cell)), bit_of(cell)}; }

inline unsigned popcount(uint64_t bits) { return static_cast<unsigned>(__builtin_popcountll(bits)); }
inline unsigned lowest_bit(uint64_t bits) { return static_cast<unsigned>(__builtin_ctzll(bits)); }
inline unsigned highest_bit(uint64_t bits) { return 63u - static_cast<unsigned>(__builtin_clzll(bits)); }

// A set of cells with a constant-time test: a byte for every cell.
class CellSet {
 public:
  CellSet() : members_(kMaxCells, 0) {}

  // As numbers that can be added up: 1 or 0.
  uint8_t has(uint16_t cell) const { return members_[cell]; }
  void insert(uint16_t cell) { members_[cell] = 1; }
  void insert(const ColumnCells& c) {
    for (uint32_t rest = c.cells; rest; rest &= rest - 1) members_[cell_number(c.column, lowest_bit(rest))] = 1;
  }
  void erase(uint16_t cell) { members_[cell] = 0; }
  void erase_column(unsigned column) { std::fill_n(&members_[cell_number(column, 0)], kCellsPerColumn, uint8_t{0}); }

  void insert_all(const Cells& cells) {
    for (uint16_t cell : cells) insert(cell);
  }
  void erase_all(const Cells& cells) {
    for (uint16_t cell : cells) erase(cell);
  }
  void insert_all(const std::vector<ColumnCells>& columns) {
    for (const ColumnCells& c : columns) insert(c);
  }
  void erase_all(const std::vector<ColumnCells>& columns) {
    for (const ColumnCells& c : columns) erase_column(c.column);
  }

 private:
  std::vector<uint8_t> members_;
};

}  // namespace htm
