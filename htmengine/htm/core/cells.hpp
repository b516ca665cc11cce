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

// A set of cells with a constant-time test: a bit for every cell.
class CellSet {
 public:
  // With these cells of each column.
  explicit CellSet(uint32_t cells = 0) : columns_(kMaxColumns, cells) {}

  // As numbers that can be added up: 1 or 0.
  uint8_t has(uint16_t cell) const {
    return static_cast<uint8_t>(columns_[column_of(cell)] >> cell % kCellsPerColumn & 1);
  }
  void insert(uint16_t cell) { columns_[column_of(cell)] |= bit_of(cell); }
  void insert(const ColumnCells& c) { columns_[c.column] |= c.cells; }
  void erase(uint16_t cell) { columns_[column_of(cell)] &= ~bit_of(cell); }
  void erase_column(unsigned column) { columns_[column] = 0; }
  void clear() { std::fill(columns_.begin(), columns_.end(), 0u); }

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
  std::vector<uint32_t> columns_;  //: by column: its cells that are in the set
};

}  // namespace htm
