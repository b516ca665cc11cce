// SPDX-License-Identifier: MIT
// A model's state as bytes: little-endian numbers, and arrays of numbers in as few bits as their kind allows.
// The reader trusts nothing: every length is checked before it is used, every failure is a CorruptState.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace htm {

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

struct Code {
  uint32_t bits;
  unsigned width;  // at most 32
};

// Codes one after the other, the lowest bit first.  Whole words are written, which overlap, so there must be room for
// one more; all is in registers, so it is fast.
class BitWriter {
 public:
  explicit BitWriter(char* to) : at_(to) {}

  void put(Code code) {
    pending_ |= uint64_t{code.bits} << filled_;
    filled_ += code.width;
    put_little(at_, pending_);
    at_ += filled_ / 8;
    pending_ >>= filled_ & ~7u;
    filled_ %= 8;
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
  // are most of all, these have short codes.
  void packed(const std::vector<uint16_t>& values) {
    varint(static_cast<uint32_t>(values.size()));
    if (values.empty()) return;
    Distinct& distinct = Distinct::of_this_thread();
    distinct.find(values);
    ascending(distinct.values);
    unsigned width = bits_for(static_cast<uint32_t>(distinct.values.size() - 1));
    unsigned brief = distinct.best_brief_width(values.size(), width);
    uint32_t escape = (1u << brief) - 1;
    number(static_cast<uint8_t>(brief));
    for (uint32_t place = 0; place < distinct.values.size(); ++place) {
      uint32_t code = std::min<uint32_t>(distinct.rank[place], escape);
      distinct.codes[place] = code == escape ? Code{code | place << brief, brief + width} : Code{code, brief};
    }
    BitWriter bits(room_for((escape * width + values.size() * (brief + width)) / 8 + 2 * sizeof(uint64_t)));
    for (uint32_t code = 0; code < escape; ++code) bits.put({distinct.frequent[code], width});
    const uint32_t* place = distinct.place.data();
    const Code* codes = distinct.codes.data();
    for (uint16_t value : values) bits.put(codes[place[value]]);
    size_ = static_cast<size_t>(bits.end() - bytes_.data());
    distinct.forget();
  }

  std::string take() {
    bytes_.resize(size_);
    return std::move(bytes_);
  }

 private:
  // The distinct values of an array.
  struct Distinct {
    static constexpr unsigned kMostFrequent = 15;  // that can have short codes

    std::vector<uint16_t> values;       //: ascending
    std::vector<uint32_t> counts;       //: by place in `values`
    std::vector<uint32_t> frequent;     //: the places of the most frequent, these first
    std::vector<uint32_t> rank;         //: by place: its place among the frequent ones, or kMostFrequent
    std::vector<Code> codes;            //: by place
    std::vector<uint32_t> place = std::vector<uint32_t>(65536, 0);  //: by value; all 0 between uses

    static Distinct& of_this_thread() {
      static thread_local Distinct distinct;
      return distinct;
    }

    void find(const std::vector<uint16_t>& all) {
      values.clear();
      for (uint16_t value : all)
        if (place[value]++ == 0) values.push_back(value);
      sort_values();
      counts.resize(values.size());
      codes.resize(values.size());
      for (uint32_t i = 0; i < values.size(); ++i) {
        counts[i] = place[values[i]];
        place[values[i]] = i;
      }
      find_frequent();
    }

    void sort_values() {
      if (values.size() < 1024) {
        std::sort(values.begin(), values.end());
        return;
      }
      values.clear();  // of so many, a walk over all numbers is faster
      for (uint32_t value = 0; value < place.size(); ++value)
        if (place[value]) values.push_back(static_cast<uint16_t>(value));
    }

    void find_frequent() {
      frequent.resize(values.size());
      for (uint32_t i = 0; i < values.size(); ++i) frequent[i] = i;
      auto last = frequent.begin() + std::min<std::ptrdiff_t>(kMostFrequent, frequent.end() - frequent.begin());
      std::partial_sort(frequent.begin(), last, frequent.end(), [&](uint32_t a, uint32_t b) {
        return counts[a] != counts[b] ? counts[a] > counts[b] : a < b;
      });
      frequent.erase(last, frequent.end());
      rank.assign(values.size(), kMostFrequent);
      for (uint32_t i = 0; i < frequent.size(); ++i) rank[frequent[i]] = i;
    }

    void forget() {
      for (uint16_t value : values) place[value] = 0;
    }

    // The width of the short codes that takes the fewest bits; 0: none, all values have their place's full width.
    unsigned best_brief_width(size_t all, unsigned width) const {
      unsigned best = 0;
      size_t best_bits = all * width, covered = 0;
      for (unsigned brief = 1, next = 0; brief < width && (1u << brief) - 1 <= kMostFrequent; ++brief) {
        for (; next < (1u << brief) - 1; ++next) covered += counts[frequent[next]];
        size_t needed = ((1u << brief) - 1) * width + all * brief + (all - covered) * width;
        if (needed < best_bits) best = brief, best_bits = needed;
      }
      return best;
    }
  };

  // Where the next bytes go; there is room for so many.
  char* room_for(size_t bytes) {
    if (bytes_.size() - size_ < bytes) bytes_.resize(2 * bytes_.size() + bytes + 4096);
    return &bytes_[size_];
  }

  std::string bytes_;  // the first `size_` are written
  size_t size_ = 0;
};

class Reader {
 public:
  Reader(const char* data, size_t size) : at_(reinterpret_cast<const uint8_t*>(data)), end_(at_ + size) {}

  template <class T>
  T number() {
    require(left() >= sizeof(T), "ends too early");
    T value = little<T>();
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

  // The next `width` bits, at most 32.
  uint32_t bits(unsigned width) {
    uint64_t word = left() >= sizeof word ? little<uint64_t>() : last_bytes(width);
    uint64_t value = (word >> taken_) & ((uint64_t{1} << width) - 1);
    taken_ += width;
    at_ += taken_ / 8;
    taken_ %= 8;
    return static_cast<uint32_t>(value);
  }

  void align() {
    at_ += taken_ > 0;
    taken_ = 0;
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
  std::vector<uint16_t> packed(size_t most, uint32_t largest, const char* what) {
    size_t count = varint();
    require(count <= most, what);
    if (count == 0) return {};
    std::vector<uint16_t> distinct = ascending(65536, largest, what);
    require(!distinct.empty(), what);
    unsigned width = bits_for(static_cast<uint32_t>(distinct.size() - 1));
    unsigned brief = number_to<uint8_t>(width, what);
    require(brief == 0 || brief < width, what);
    uint32_t escape = (1u << brief) - 1;
    std::vector<uint16_t> frequent(escape);
    for (uint16_t& value : frequent) value = one_of(distinct, width, what);
    std::vector<uint16_t> values(count);
    for (uint16_t& value : values) {
      uint32_t code = bits(brief);
      value = code == escape ? one_of(distinct, width, what) : frequent[code];
    }
    align();
    return values;
  }

  void finish() const { require(at_ == end_, "has bytes left over"); }

 private:
  // The number at this place, which has the bytes for it.
  template <class T>
  T little() const {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(at_[i]) << (8 * i);
    return static_cast<T>(value);
  }

  // What is left, less than eight bytes, for so many bits.
  uint64_t last_bytes(unsigned width) const {
    require(8 * left() >= taken_ + width, "ends too early");
    uint64_t word = 0;
    for (size_t i = 0; i < left(); ++i) word |= static_cast<uint64_t>(at_[i]) << (8 * i);
    return word;
  }

  uint16_t one_of(const std::vector<uint16_t>& distinct, unsigned width, const char* what) {
    uint32_t place = bits(width);
    require(place < distinct.size(), what);
    return distinct[place];
  }

  size_t left() const { return static_cast<size_t>(end_ - at_); }

  const uint8_t* at_;
  const uint8_t* end_;
  unsigned taken_ = 0;  // bits of the byte at this place that were read already
};

}  // namespace htm
