// SPDX-License-Identifier: MIT
// One growing array of words, handed out in blocks: thousands of short lists without thousands of allocations.  Block
// sizes step by an eighth, so little is wasted; freed blocks are used again.  When the array is full although much of
// it is idle, its owner packs it: so it grows with what it holds, not with what came and went.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cells.hpp"

namespace htm {

template <class Word>
class Blocks {
 public:
  static constexpr unsigned kSizes = 168;  // 2, 4 .. 16, 18 .. 32, 36 .. 64, 72 .. 16,777,216 words

  // The smallest block size, as a number, that holds so many words (at least 1).
  static uint8_t size_for(uint32_t words) {
    if (words <= 16) return static_cast<uint8_t>((words + 1) / 2 - 1);
    unsigned doublings = highest_bit(words - 1) - 4;
    return static_cast<uint8_t>(8 + 8 * doublings + ((words - 1 - (16u << doublings)) >> (doublings + 1)));
  }

  static uint32_t words_of(uint8_t size) {
    if (size < 8) return 2u * (size + 1u);
    unsigned doublings = (size - 8u) / 8u, eighth = (size - 8u) % 8u;
    return (16u << doublings) + ((2u << doublings) * (eighth + 1u));
  }

  Blocks() { free_.fill(kNone); }

  // A block's offset.  Pointers from at() do not survive this call.
  uint32_t take(uint8_t size) {
    uint32_t block = free_[size];
    if (block != kNone) {
      std::memcpy(&free_[size], at(block), sizeof block);
      return block;
    }
    block = static_cast<uint32_t>(words_.size());
    size_t needed = block + words_of(size);
    if (needed > words_.capacity()) words_.reserve(needed + needed / 16 + 512);
    words_.resize(needed);
    return block;
  }

  void give_back(uint32_t block, uint8_t size) {
    std::memcpy(at(block), &free_[size], sizeof block);
    free_[size] = block;
  }

  Word* at(uint32_t block) { return words_.data() + block; }
  const Word* at(uint32_t block) const { return words_.data() + block; }

  // Whether the owner, whose blocks hold so many words, should rather pack than let take(size) enlarge the array.
  bool should_pack(uint8_t size, size_t used) const {
    bool full = free_[size] == kNone && words_.size() + words_of(size) > words_.capacity();
    return full && words_.size() > used + used / 8;
  }

  // The first half of packing: empties the array and copies its words to `old`, at their offsets.  The owner then
  // takes new blocks for what it has.
  void empty_into(std::vector<Word>& old) {
    old.assign(words_.begin(), words_.end());
    words_.clear();
    free_.fill(kNone);
  }

  void reserve(size_t words) { words_.reserve(words); }
  size_t bytes() const { return words_.capacity() * sizeof(Word); }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  static_assert(sizeof(Word) >= 2, "two words hold the next free block");

  std::vector<Word> words_;
  std::array<uint32_t, kSizes> free_;  //: by size: first free block; a free block begins with the next one
};

}  // namespace htm
