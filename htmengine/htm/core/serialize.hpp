// SPDX-License-Identifier: MIT
// A model's state as bytes: little-endian numbers, and arrays of few distinct values packed bit by bit.
// The reader trusts nothing: every length is checked before it is used, every failure is a CorruptState.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace htm {

class CorruptState : public std::runtime_error {
 public:
  explicit CorruptState(const std::string& what) : std::runtime_error(what) {}
};

inline void require(bool holds, const char* what) {
  if (!holds) throw CorruptState(what);
}

inline unsigned bits_for(uint32_t largest) {
  unsigned bits = 0;
  for (; largest; largest >>= 1) ++bits;
  return bits;
}

class Writer {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral<T>::value, "doubles go through real()");
    char little[sizeof(T)];
    for (size_t i = 0; i < sizeof(T); ++i) little[i] = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
    bytes_.append(little, sizeof little);
  }

  void real(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    number(bits);
  }

  void real32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    number(bits);
  }

  // Count, palette of the distinct values, and for each value its place in the palette in as few bits as
  // hold all places.  Permanences have some twenty distinct values, sources some thousands of 65,536.
  void packed(const std::vector<uint16_t>& values) {
    std::vector<uint16_t> place(65536, 0);
    for (uint16_t value : values) place[value] = 1;
    std::vector<uint16_t> palette;
    for (unsigned value = 0; value < 65536; ++value)
      if (place[value]) {
        place[value] = static_cast<uint16_t>(palette.size());
        palette.push_back(static_cast<uint16_t>(value));
      }
    number(static_cast<uint32_t>(values.size()));
    number(static_cast<uint32_t>(palette.size()));
    for (uint16_t value : palette) number(value);
    unsigned width = palette.empty() ? 0 : bits_for(static_cast<uint32_t>(palette.size() - 1));
    uint64_t pending = 0;
    unsigned filled = 0;
    for (uint16_t value : values) {
      pending |= static_cast<uint64_t>(place[value]) << filled;
      filled += width;
      if (filled >= 32) {
        number(static_cast<uint32_t>(pending));
        pending >>= 32;
        filled -= 32;
      }
    }
    for (; filled > 0; filled -= std::min(filled, 8u), pending >>= 8) number(static_cast<uint8_t>(pending));
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Reader {
 public:
  Reader(const char* data, size_t size) : at_(reinterpret_cast<const uint8_t*>(data)), end_(at_ + size) {}

  template <class T>
  T number() {
    require(left() >= sizeof(T), "ends too early");
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(at_[i]) << (8 * i);
    at_ += sizeof(T);
    return static_cast<T>(value);
  }

  // A number of at most `largest`.
  template <class T>
  T number_to(uint64_t largest, const char* what) {
    T value = number<T>();
    require(static_cast<uint64_t>(value) <= largest, what);
    return value;
  }

  double real() {
    uint64_t bits = number<uint64_t>();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  float real32() {
    uint32_t bits = number<uint32_t>();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  // The values that Writer::packed wrote: at most `most` of them, none above `largest`.
  std::vector<uint16_t> packed(size_t most, uint32_t largest, const char* what) {
    size_t count = number<uint32_t>();
    require(count <= most, what);
    size_t distinct = number<uint32_t>();
    require(distinct <= 65536 && left() >= 2 * distinct && (distinct > 0 || count == 0), what);
    std::vector<uint16_t> palette(distinct);
    for (uint16_t& value : palette) {
      value = number<uint16_t>();
      require(value <= largest, what);
    }
    unsigned width = distinct ? bits_for(static_cast<uint32_t>(distinct - 1)) : 0;
    size_t bytes = (count * width + 7) / 8;
    require(left() >= bytes, what);
    std::vector<uint16_t> values(count);
    uint64_t mask = (uint64_t{1} << width) - 1;
    for (size_t i = 0; i < count; ++i) {
      size_t place = static_cast<size_t>(four_bytes(i * width / 8) >> (i * width % 8) & mask);
      require(place < distinct, what);
      values[i] = palette[place];
    }
    at_ += bytes;
    return values;
  }

  void finish() const { require(at_ == end_, "has bytes left over"); }

 private:
  // The next four bytes from `offset` as a number; those past the end count as 0.
  uint64_t four_bytes(size_t offset) const {
    const uint8_t* p = at_ + offset;
    uint64_t value = 0;
    if (offset + 4 <= left()) return p[0] | uint64_t{p[1]} << 8 | uint64_t{p[2]} << 16 | uint64_t{p[3]} << 24;
    for (unsigned i = 0; offset + i < left() && i < 4; ++i) value |= uint64_t{p[i]} << (8 * i);
    return value;
  }

  size_t left() const { return static_cast<size_t>(end_ - at_); }

  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace htm
