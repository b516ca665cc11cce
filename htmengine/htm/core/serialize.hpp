// SPDX-License-Identifier: MIT
// A model's state as bytes: little-endian numbers, and arrays of numbers in as few bits as their kind allows.
// The reader trusts nothing: every length is checked before it is used, every failure is a CorruptState.
#pragma once

#if !defined(__GNUC__)
#error \
    "HTM Engine's core needs GCC or Clang: it counts bits with their built-ins and its bytes are tested with them only"
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "distinct.hpp"

namespace htm {

constexpr size_t kAtOnce = 256;  // values of an array that are coded or decoded together

class CorruptState : public std::runtime_error {
 public:
  explicit CorruptState(const std::string& what) : std::runtime_error(what) {}
};

[[noreturn]] inline void refuse(const char* what) { throw CorruptState(what); }

inline void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

inline unsigned bits_for(uint32_t largest) {
  unsigned bits = 0;
  for (; largest; largest >>= 1) ++bits;
  return bits;
}

template <class T>
void put_little(char* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
}

template <class T>
T get_little(const uint8_t* from) {
  T value = 0;
  if constexpr (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) {  // which compilers do not always see in the loop
    std::memcpy(&value, from, sizeof value);
  } else {
    for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{from[i]} << (8 * i)));
  }
  return value;
}

// Numbers of up to 56 bits one after the other, the lowest bit first.  Whole words are written, which overlap, so there
// must be room for one more; all is in registers, so it is fast.
class BitWriter {
 public:
  explicit BitWriter(char* to) : at_(to) {}

  void put(uint64_t value, unsigned width) {
    pending_ |= value << filled_;
    filled_ += width;
    put_little(at_, pending_);
    at_ += filled_ / 8;
    pending_ >>= filled_ & ~7u;
    filled_ %= 8;
  }

  // So many numbers of at most 16 bits, several at a time.
  void put_all(const uint16_t* values, size_t count, unsigned width) {
    if (width == 0) return;
    unsigned group = 56 / width;
    for (; count >= group; count -= group) {
      uint64_t together = 0;
      for (unsigned i = 0; i < group; ++i) together |= uint64_t{*values++} << (i * width);
      put(together, group * width);
    }
    for (; count; --count) put(*values++, width);
  }

  // Behind the last byte, which may be full only in part.
  char* end() const { return at_ + (filled_ > 0); }

 private:
  char* at_;
  uint64_t pending_ = 0;  // bits that do not fill a byte yet
  unsigned filled_ = 0;   // how many
};

class Writer {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral<T>::value, "doubles go through real()");
    put_little(room_for(sizeof(T)), value);
    size_ += sizeof(T);
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

  // Seven bits a byte, the lowest first; small numbers take one byte.
  void varint(uint32_t value) {
    for (; value >= 128; value >>= 7) number(static_cast<uint8_t>(value | 128));
    number(static_cast<uint8_t>(value));
  }

  // Numbers each greater than the one before: their distances.
  void ascending(const std::vector<uint16_t>& values) {
    varint(static_cast<uint32_t>(values.size()));
    uint32_t next = 0;
    for (uint16_t value : values) {
      varint(value - next);
      next = value + 1u;
    }
  }

  // Numbers of which many are equal: the distinct ones, ascending, and for each its place among them.  Where a few
  // are most of all, each has a short code instead; the escape stands for one whose place comes after all short codes.
  template <class T>
  void packed(const std::vector<T>& values) {
    varint(static_cast<uint32_t>(values.size()));
    if (values.empty()) return;
    distinct_.find(values);
    ascending(distinct_.values());
    unsigned width = bits_for(static_cast<uint32_t>(distinct_.values().size() - 1));
    unsigned brief = distinct_.best_brief_width(width);
    uint16_t escape = static_cast<uint16_t>((1u << brief) - 1);
    number(static_cast<uint8_t>(brief));
    BitWriter bits(room_for((escape * width + values.size() * (brief + width)) / 8 + 2 * sizeof(uint64_t)));
    bits.put_all(distinct_.frequent().data(), escape, width);
    distinct_.choose_codes(escape);
    for (size_t first = 0; first < values.size(); first += kAtOnce) {
      size_t some = std::min(values.size() - first, kAtOnce);
      uint16_t codes[kAtOnce];
      distinct_.encode(&values[first], some, codes);
      bits.put_all(codes, some, brief);
    }
    bits.put_all(distinct_.rare(), distinct_.rares(), width);
    size_ = static_cast<size_t>(bits.end() - bytes_.data());
  }

  std::string take() {
    bytes_.resize(size_);
    return std::move(bytes_);
  }

 private:
  // Where the next bytes go; there is room for so many.
  char* room_for(size_t bytes) {
    if (bytes_.size() - size_ < bytes) bytes_.resize(2 * bytes_.size() + bytes + 4096);
    return &bytes_[size_];
  }

  Distinct& distinct_ = Distinct::of_this_thread();
  std::string bytes_;  // the first `size_` are written
  size_t size_ = 0;
};

// Reads what BitWriter wrote.
class BitReader {
 public:
  BitReader(const uint8_t* from, const uint8_t* end) : from_(from), bits_(8 * static_cast<uint64_t>(end - from)) {}

  // The next `width` bits, at most 56.
  uint64_t next(unsigned width) {
    uint64_t at = at_;
    skip(width);
    uint64_t word = bits_ - at >= 64 ? get_little<uint64_t>(from_ + at / 8) : last_word(at / 8);
    return word >> at % 8 & ((uint64_t{1} << width) - 1);
  }

  void skip(uint64_t width) {
    require(width <= bits_ - at_, "ends too early");
    at_ += width;
  }

  // Behind the last byte, which may have been read only in part.
  const uint8_t* end() const { return from_ + (at_ + 7) / 8; }

 private:
  // What is left from this byte on, less than nine bytes.
  uint64_t last_word(uint64_t byte) const {
    uint64_t word = 0;
    for (unsigned i = 0; i < 8 && byte + i < bits_ / 8; ++i) word |= static_cast<uint64_t>(from_[byte + i]) << (8 * i);
    return word;
  }

  const uint8_t* from_;
  uint64_t bits_, at_ = 0;
};

class Reader {
 public:
  Reader(const char* data, size_t size) : at_(reinterpret_cast<const uint8_t*>(data)), end_(at_ + size) {}

  template <class T>
  T number() {
    require(left() >= sizeof(T), "ends too early");
    T value = get_little<T>(at_);
    at_ += sizeof(T);
    return value;
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

  uint32_t varint() {
    uint32_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      require(shift < 35, "a number that is too long");
      uint8_t byte = number<uint8_t>();
      value |= static_cast<uint32_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  // The numbers that Writer::ascending wrote: at most `most` of them, none above `largest`.
  std::vector<uint16_t> ascending(size_t most, uint32_t largest, const char* what) {
    size_t count = varint();
    require(count <= most && count <= left(), what);
    std::vector<uint16_t> values(count);
    uint64_t next = 0;
    for (uint16_t& value : values) {
      next += varint();
      require(next <= largest, what);
      value = static_cast<uint16_t>(next++);
    }
    return values;
  }

  // The numbers that Writer::packed wrote: at most `most` of them, none above `largest`.
  template <class T = uint16_t>
  std::vector<T> packed(size_t most, uint32_t largest, const char* what) {
    size_t count = varint();
    require(count <= most, what);
    if (count == 0) return {};
    std::vector<uint16_t> distinct = ascending(65536, largest, what);
    require(!distinct.empty(), what);
    unsigned width = bits_for(static_cast<uint32_t>(distinct.size() - 1));
    unsigned brief = number_to<uint8_t>(width, what);
    require(brief == 0 || brief < width, what);
    uint32_t escape = (1u << brief) - 1;
    BitReader bits(at_, end_);
    auto one_of_all = [&] {
      uint64_t place = bits.next(width);
      require(place < distinct.size(), what);
      return static_cast<T>(distinct[place]);
    };
    std::vector<T> by_code(escape + 1, 0);
    for (uint32_t code = 0; code < escape; ++code) by_code[code] = one_of_all();
    BitReader brief_bits = bits;
    bits.skip(uint64_t{count} * brief);
    std::vector<T> values(count);
    for (size_t first = 0; first < count; first += kAtOnce) {
      size_t rare[kAtOnce], rares = 0;
      for (size_t i = first, end = std::min(count, first + kAtOnce); i < end; ++i) {  // no branch on the code
        uint64_t code = brief_bits.next(brief);
        values[i] = by_code[code];
        rare[rares] = i;
        rares += code == escape;
      }
      for (size_t i = 0; i < rares; ++i) values[rare[i]] = one_of_all();
    }
    at_ = bits.end();
    return values;
  }

  void finish() const { require(at_ == end_, "has bytes left over"); }

 private:
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace htm
