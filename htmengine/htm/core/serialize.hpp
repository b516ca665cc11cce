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

  // Seven bits a byte, the lowest first; small numbers take one byte.
  void varint(uint32_t value) {
    for (; value >= 128; value >>= 7) number(static_cast<uint8_t>(value | 128));
    number(static_cast<uint8_t>(value));
  }

  // The lowest `width` bits of a number, at most 32; align() ends a run of these.
  void bits(uint32_t value, unsigned width) {
    pending_ |= static_cast<uint64_t>(value) << filled_;
    filled_ += width;
    if (filled_ < 32) return;
    number(static_cast<uint32_t>(pending_));
    pending_ >>= 32;
    filled_ -= 32;
  }

  void align() {
    for (; filled_ > 0; filled_ -= std::min(filled_, 8u), pending_ >>= 8) number(static_cast<uint8_t>(pending_));
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
    for (uint32_t code = 0; code < escape; ++code) bits(distinct.frequent[code], width);
    for (uint32_t place = 0; place < distinct.values.size(); ++place) {
      uint32_t code = std::min<uint32_t>(distinct.rank[place], escape);
      distinct.code[place] = code == escape ? code | place << brief : code;
      distinct.code_width[place] = static_cast<uint8_t>(code == escape ? brief + width : brief);
    }
    bytes_.reserve(bytes_.size() + (values.size() * (brief + width)) / 8 + 8);
    for (uint16_t value : values) bits(distinct.code[distinct.place[value]], distinct.code_width[distinct.place[value]]);
    align();
    distinct.forget();
  }

  std::string take() { return std::move(bytes_); }

 private:
  // The distinct values of an array.
  struct Distinct {
    static constexpr unsigned kMostFrequent = 15;  // that can have short codes

    std::vector<uint16_t> values;       //: ascending
    std::vector<uint32_t> counts;       //: by place in `values`
    std::vector<uint32_t> frequent;     //: the places of the most frequent, these first
    std::vector<uint32_t> rank;         //: by place: its place among the frequent ones, or kMostFrequent
    std::vector<uint32_t> code;         //: by place
    std::vector<uint8_t> code_width;    //: by place
    std::vector<uint32_t> place = std::vector<uint32_t>(65536, 0);  //: by value; all 0 between uses

    static Distinct& of_this_thread() {
      static thread_local Distinct distinct;
      return distinct;
    }

    void find(const std::vector<uint16_t>& all) {
      values.clear();
      for (uint16_t value : all)
        if (place[value]++ == 0) values.push_back(value);
      std::sort(values.begin(), values.end());
      counts.resize(values.size());
      code.resize(values.size());
      code_width.resize(values.size());
      for (uint32_t i = 0; i < values.size(); ++i) {
        counts[i] = place[values[i]];
        place[values[i]] = i;
      }
      find_frequent();
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

  std::string bytes_;
  uint64_t pending_ = 0;  // bits that do not fill a byte yet
  unsigned filled_ = 0;
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

  uint32_t varint() {
    uint32_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      require(shift < 35, "a number that is too long");
      uint8_t byte = number<uint8_t>();
      value |= static_cast<uint32_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  uint32_t bits(unsigned width) {
    if (filled_ < width) refill(width);
    uint32_t value = static_cast<uint32_t>(pending_ & ((uint64_t{1} << width) - 1));
    pending_ >>= width;
    filled_ -= width;
    return value;
  }

  void align() {
    at_ -= filled_ / 8;
    pending_ = filled_ = 0;
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
  void refill(unsigned width) {
    if (left() >= 4) {
      pending_ |= static_cast<uint64_t>(number<uint32_t>()) << filled_;
      filled_ += 32;
      return;
    }
    for (; filled_ < width; filled_ += 8) pending_ |= static_cast<uint64_t>(number<uint8_t>()) << filled_;
  }

  uint16_t one_of(const std::vector<uint16_t>& distinct, unsigned width, const char* what) {
    uint32_t place = bits(width);
    require(place < distinct.size(), what);
    return distinct[place];
  }

  size_t left() const { return static_cast<size_t>(end_ - at_); }

  const uint8_t* at_;
  const uint8_t* end_;
  uint64_t pending_ = 0;  // bits that were read but not asked for yet
  unsigned filled_ = 0;
};

}  // namespace htm
