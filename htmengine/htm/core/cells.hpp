// SPDX-License-Identifier: MIT
// Columns, cells and sets of cells, as both temporal memories name them.
#pragma once

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

// A set of cells with a constant-time test: a mask of cells for every column.
class CellSet {
 public:
  CellSet() : masks_(kMaxColumns, 0) {}

  bool has(uint16_t cell) const { return masks_[column_of(cell)] >> (cell & (kCellsPerColumn - 1)) & 1; }
  void insert(uint16_t cell) { masks_[column_of(cell)] |= bit_of(cell); }
  void insert(const ColumnCells& c) { masks_[c.column] |= c.cells; }
  void erase_column(unsigned column) { masks_[column] = 0; }

  void insert_all(const Cells& cells) {
    for (uint16_t cell : cells) insert(cell);
  }
  void erase_all(const Cells& cells) {
    for (uint16_t cell : cells) erase_column(column_of(cell));
  }

 private:
  std::vector<uint32_t> masks_;
};

}  // namespace htm
