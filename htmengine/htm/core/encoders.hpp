// SPDX-License-Identifier: MIT
// Encoders (Purdy 2016): a row's timestamp and value to input bits, so that what is alike shares bits.
// First the bits of the date's aspects, then those of the value.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "random.hpp"
#include "serialize.hpp"
#include "shared.hpp"

namespace htm {

using Bits = std::vector<uint16_t>;  // numbers of the input bits that are on, each once

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

// --- a row of bits

// A value's place along a row of bits: `width` neighbouring bits are on.  A ring has no ends.
struct BitRow {
  unsigned bits = 0, width = 0;
  double minimum = 0, maximum = 1;
  double step = 1;  // how far apart buckets are
  bool periodic = false;

  // The bucket of a value from minimum to maximum.
  unsigned bucket(double value) const {
    double place = periodic ? (value - minimum) * bits / (maximum - minimum) : (value - minimum + step / 2) / step;
    unsigned last = periodic ? bits - 1 : bits - std::min(width, bits);
    if (!(place > 0)) return 0;  // also where a range is too small to be divided into buckets
    return static_cast<unsigned>(std::min(std::floor(place), static_cast<double>(last)));
  }

  // A ring's bits are those around the bucket's, a row's begin with it.
  void encode(unsigned bucket, unsigned offset, Bits& on) const {
    unsigned first = periodic ? bucket + bits * width - width / 2 : bucket;
    for (unsigned i = 0; i < std::min(width, bits); ++i)
      on.push_back(static_cast<uint16_t>(offset + (first + i) % bits));
  }
};

// --- the date

enum class Aspect : uint8_t { time_of_day, weekend, day_of_week, season, holiday };

struct DateField {
  Aspect aspect = Aspect::time_of_day;
  BitRow row;
};

struct Holiday {
  int year = 0;  // 0: every year
  int month = 12, day = 25;
};

// Days from 1970-01-01 to a date of the Gregorian calendar: years start in March, so that the leap day is last.
inline int64_t days_to(int64_t year, int month, int day) {
  year -= month <= 2;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t of_era = year - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

// A timestamp (seconds since 1970, UTC) as the aspects see it.
class Moment {
 public:
  explicit Moment(int64_t timestamp) {
    day_ = timestamp / kDay - (timestamp % kDay < 0);
    second_ = timestamp - day_ * kDay;
    int64_t minute = second_ / 60, hour = minute / 60;
    hours_ = static_cast<double>(hour) + static_cast<double>(minute % 60) / 60.0;
  }

  double of(Aspect aspect, const std::vector<Holiday>& holidays) const {
    switch (aspect) {
      case Aspect::time_of_day: return hours_;
      case Aspect::weekend: return weekday() >= 5 || (weekday() == 4 && hours_ > 18);
      case Aspect::day_of_week: return static_cast<double>(weekday()) + hours_ / 24.0;
      case Aspect::season: return static_cast<double>(day_ - days_to(year(), 1, 1));
      default: return nearness(holidays);
    }
  }

 private:
  static constexpr int64_t kDay = 86400;

  int64_t weekday() const { return ((day_ + 3) % 7 + 7) % 7; }  // Monday 0; 1970 began on a Thursday

  int64_t year() const {
    int64_t year = 1970 + static_cast<int64_t>(std::floor(static_cast<double>(day_) / 365.2425));
    while (days_to(year, 1, 1) > day_) --year;
    while (days_to(year + 1, 1, 1) <= day_) ++year;
    return year;
  }

  // 1 on a holiday, rising to it over the day before and falling over the day after.
  double nearness(const std::vector<Holiday>& holidays) const {
    double nearest = 0;
    for (const Holiday& holiday : holidays) {
      int64_t first = holiday.year ? holiday.year : year() - 1, last = holiday.year ? holiday.year : year() + 1;
      for (int64_t y = first; y <= last; ++y) {
        double days = static_cast<double>(day_ - days_to(y, holiday.month, holiday.day)) +
                      static_cast<double>(second_) / kDay;  // since its midnight
        nearest = std::max(nearest, days < 0 ? 1 + days : days < 1 ? 1.0 : 2 - days);
      }
    }
    return nearest;
  }

  int64_t day_, second_;
  double hours_;
};

// --- the value

// What encodes the value: first its bucket, which the classifier predicts, then the bucket's bits.
class ValueEncoder {
 public:
  static constexpr unsigned kNoBucket = 0xFFFF;

  virtual ~ValueEncoder() = default;
  virtual unsigned bits() const = 0;

  // Throws std::domain_error if the value cannot be encoded.
  virtual void check(double) const {}

  // The value's bucket; may move the encoder's state on.  kNoBucket for a missing value (NaN).
  virtual unsigned bucket(double value) = 0;
  virtual void encode(unsigned bucket, unsigned offset, Bits& on) const = 0;
  virtual void save(Writer&) const {}
  virtual void restore(Reader&) {}
};

// The bucket table of random distributed scalar encoders: neighbours share all bits but one, buckets far apart
// next to none.
class BucketTable {
 public:
  struct Parameters {
    unsigned bits, width;
    uint64_t seed;
    bool operator==(const Parameters& o) const { return bits == o.bits && width == o.width && seed == o.seed; }
  };
  static constexpr unsigned kBuckets = 1000, kCentre = 500;

  explicit BucketTable(const Parameters& p)
      : width_(p.width), words_((p.bits + 63) / 64), bits_(kBuckets * p.width), maps_(size_t{kBuckets} * words_, 0) {
    Random random(p.seed);
    std::vector<uint16_t> order(p.bits);
    for (unsigned bit = 0; bit < p.bits; ++bit) order[bit] = static_cast<uint16_t>(bit);
    random.choose(order, width_);
    for (unsigned i = 0; i < width_; ++i) put(kCentre, i, order[i]);
    made_.push_back(kCentre);
    for (unsigned distance = 1; distance <= kCentre; ++distance) {
      make_beside(kCentre - distance, kCentre - distance + 1, p.bits, random);
      if (kCentre + distance < kBuckets) make_beside(kCentre + distance, kCentre + distance - 1, p.bits, random);
    }
  }

  const uint16_t* bucket(unsigned number) const { return &bits_[size_t{number} * width_]; }
  unsigned width() const { return width_; }

 private:
  // A bucket is its neighbour with one bit redrawn, until it keeps its distance from all buckets made so far.
  void make_beside(unsigned number, unsigned neighbour, unsigned bits, Random& random) {
    for (unsigned i = 0; i < width_; ++i) put(number, i, bucket(neighbour)[i]);
    unsigned position = number % width_;
    uint16_t old = bucket(neighbour)[position];
    set_map(number, old, false);
    // Few bits for many buckets can make the usual overlap of 2 impossible: then it may be more.
    for (unsigned far_overlap = 2, draws = 1;; far_overlap += draws++ % (64 * bits) == 0) {
      uint16_t bit = static_cast<uint16_t>(random.below(bits));
      if (bit == old || has(number, bit)) continue;
      set_map(number, bit, true);
      if (keeps_distance(number, far_overlap)) {
        bits_[size_t{number} * width_ + position] = bit;
        made_.push_back(number);
        return;
      }
      set_map(number, bit, false);
    }
  }

  bool keeps_distance(unsigned number, unsigned far_overlap) const {
    for (auto other = made_.rbegin(); other != made_.rend(); ++other) {
      unsigned distance = *other > number ? *other - number : number - *other;
      unsigned shared = overlap(number, *other);
      if (distance < width_ ? shared != width_ - distance : shared > far_overlap) return false;
    }
    return true;
  }

  unsigned overlap(unsigned a, unsigned b) const {
    unsigned shared = 0;
    for (unsigned w = 0; w < words_; ++w)
      shared += static_cast<unsigned>(__builtin_popcountll(maps_[a * words_ + w] & maps_[b * words_ + w]));
    return shared;
  }

  bool has(unsigned number, unsigned bit) const { return maps_[number * words_ + bit / 64] >> bit % 64 & 1; }
  void set_map(unsigned number, unsigned bit, bool on) {
    uint64_t mask = uint64_t{1} << bit % 64;
    uint64_t& word = maps_[number * words_ + bit / 64];
    word = on ? word | mask : word & ~mask;
  }
  void put(unsigned number, unsigned position, uint16_t bit) {
    bits_[size_t{number} * width_ + position] = bit;
    set_map(number, bit, true);
  }

  unsigned width_, words_;
  std::vector<uint16_t> bits_;  //: by bucket: its bits, by position
  std::vector<uint64_t> maps_;  //: by bucket: its bits as a bitmap
  std::vector<unsigned> made_;
};

class RandomDistributedEncoder final : public ValueEncoder {
 public:
  // Without an `offset` (NaN) the first value is the centre.  Beyond `minimum` and `maximum` (NaN: nowhere) buckets
  // widen.
  RandomDistributedEncoder(unsigned bits, unsigned width, uint64_t seed, double resolution, double offset,
                           double minimum, double maximum)
      : bits_(bits),
        resolution_(resolution),
        offset_(offset),
        minimum_(minimum),
        maximum_(maximum),
        table_(shared_table<BucketTable>(BucketTable::Parameters{bits, width, seed})) {}

  unsigned bits() const override { return bits_; }

  unsigned bucket(double value) override {
    if (std::isnan(value)) return kNoBucket;
    if (std::isnan(offset_)) {
      constexpr double largest = std::numeric_limits<double>::max();
      offset_ = std::min(std::max(value, -largest), largest);
    }
    double distance = (compressed(value) - compressed(offset_)) / resolution_;
    double place = BucketTable::kCentre + std::round(distance + std::copysign(kTie, distance));
    return static_cast<unsigned>(std::min(std::max(place, 0.0), BucketTable::kBuckets - 1.0));
  }

  void encode(unsigned bucket, unsigned offset, Bits& on) const override {
    const uint16_t* bits = table_->bucket(bucket);
    for (unsigned i = 0; i < table_->width(); ++i) on.push_back(static_cast<uint16_t>(offset + bits[i]));
  }

  void save(Writer& out) const override { out.real(offset_); }
  void restore(Reader& in) override {
    offset_ = in.real();
    require(!std::isinf(offset_), "value encoder");
  }

 private:
  // Values between two buckets go to the outer one, whichever way their last digit was rounded: a series in
  // milliseconds has the buckets of the same in seconds.
  static constexpr double kTie = 1e-9;      // buckets
  static constexpr double kSameWidth = 40;  // buckets outside the known range until their width doubles

  // The value as if all buckets had one width.
  double compressed(double value) const {
    if (value > maximum_) return maximum_ + compressed_distance(value - maximum_);
    if (value < minimum_) return minimum_ - compressed_distance(minimum_ - value);
    return value;
  }

  // Buckets 0..39 outside the range are one resolution wide, the next 40 two, the next 40 four: log2, drawn with
  // straight lines, because a library's logarithm may differ in its last digit from machine to machine.
  double compressed_distance(double distance) const {
    double unit = kSameWidth * resolution_;
    double x = 1 + std::min(distance / unit, std::numeric_limits<double>::max());
    int doublings = std::ilogb(x);
    return unit * (doublings + std::ldexp(x, -doublings) - 1);
  }

  unsigned bits_;
  double resolution_, offset_, minimum_, maximum_;
  std::shared_ptr<const BucketTable> table_;
};

class ScalarEncoder final : public ValueEncoder {
 public:
  ScalarEncoder(const BitRow& row, bool clip) : row_(row), clip_(clip) {}

  unsigned bits() const override { return row_.bits; }

  void check(double value) const override {
    bool inside = value >= row_.minimum && (row_.periodic ? value < row_.maximum : value <= row_.maximum);
    if (!inside && !std::isnan(value) && (row_.periodic || !clip_))
      throw std::domain_error("a value is outside the range of the scalar encoder");
  }

  unsigned bucket(double value) override { return std::isnan(value) ? kNoBucket : row_.bucket(value); }
  void encode(unsigned bucket, unsigned offset, Bits& on) const override { row_.encode(bucket, offset, on); }

 private:
  BitRow row_;
  bool clip_;
};

// A scalar encoder over the decimal logarithm; the row is in decades.
class LogEncoder final : public ValueEncoder {
 public:
  explicit LogEncoder(const BitRow& row) : row_(row) {}

  unsigned bits() const override { return row_.bits; }
  unsigned bucket(double value) override {
    if (std::isnan(value)) return kNoBucket;
    return value <= 0 ? 0 : row_.bucket(std::log10(value));
  }
  void encode(unsigned bucket, unsigned offset, Bits& on) const override { row_.encode(bucket, offset, on); }

 private:
  BitRow row_;
};

// A scalar encoder over the difference to the previous value, whose range widens to hold every difference.
class DeltaEncoder final : public ValueEncoder {
 public:
  explicit DeltaEncoder(const BitRow& row) : row_(row) { refresh_step(); }

  unsigned bits() const override { return row_.bits; }

  unsigned bucket(double value) override {
    if (!std::isfinite(value)) return kNoBucket;
    double delta = std::isnan(previous_) ? 0.0 : std::min(std::max(value - previous_, -kWidest), kWidest);
    previous_ = value;
    if (std::isnan(row_.minimum)) row_.minimum = delta, row_.maximum = delta + 1;
    row_.minimum = std::min(row_.minimum, delta);
    row_.maximum = std::max(row_.maximum, delta);
    refresh_step();
    return row_.bucket(delta);
  }
  void encode(unsigned bucket, unsigned offset, Bits& on) const override { row_.encode(bucket, offset, on); }

  void save(Writer& out) const override {
    for (double number : {previous_, row_.minimum, row_.maximum}) out.real(number);
  }
  void restore(Reader& in) override {
    previous_ = in.real();
    row_.minimum = in.real();
    row_.maximum = in.real();
    bool has_range = row_.minimum < row_.maximum && std::isfinite(row_.maximum - row_.minimum);
    bool has_none = std::isnan(row_.minimum) && std::isnan(row_.maximum);
    require((has_range || has_none) && !std::isinf(previous_), "delta encoder");
    refresh_step();
  }

 private:
  static constexpr double kWidest = 1e300;  // keeps the range finite

  void refresh_step() { row_.step = (row_.maximum - row_.minimum) / (row_.bits - row_.width); }

  BitRow row_;
  double previous_ = kNoNumber;
};

// --- all of them

enum class ValueKind : uint8_t { random_distributed, scalar, log, delta };

struct EncoderParams {
  ValueKind kind = ValueKind::random_distributed;
  unsigned bits = 400, width = 21;
  double resolution = 1;      // random distributed: between buckets
  double offset = kNoNumber;  // random distributed: value of the central bucket; NaN: the first value
  uint64_t seed = 42;         // random distributed
  double minimum = kNoNumber, maximum = kNoNumber;  // random distributed: NaN for "any"; delta: for "as they come"
  double step = 1;                                  // scalar and log: between buckets
  bool periodic = false, clip = false;
  std::vector<DateField> date;
  std::vector<Holiday> holidays;
};

inline std::unique_ptr<ValueEncoder> make_value_encoder(const EncoderParams& p) {
  BitRow row{p.bits, p.width, p.minimum, p.maximum, p.step, p.periodic};
  switch (p.kind) {
    case ValueKind::scalar: return std::make_unique<ScalarEncoder>(row, p.clip);
    case ValueKind::log: return std::make_unique<LogEncoder>(row);
    case ValueKind::delta: return std::make_unique<DeltaEncoder>(row);
    default:
      return std::make_unique<RandomDistributedEncoder>(p.bits, p.width, p.seed, p.resolution, p.offset, p.minimum,
                                                        p.maximum);
  }
}

class Encoders {
 public:
  explicit Encoders(const EncoderParams& params)
      : date_(params.date), holidays_(params.holidays), value_(make_value_encoder(params)) {
    for (const DateField& field : date_) value_offset_ += field.row.bits;
  }

  unsigned bits() const { return value_offset_ + value_->bits(); }
  void check(double value) const { value_->check(value); }

  // The bits of one row; returns the value's bucket.
  unsigned encode(int64_t timestamp, double value, Bits& on) {
    on.clear();
    Moment moment(timestamp);
    unsigned offset = 0;
    for (const DateField& field : date_) {
      field.row.encode(field.row.bucket(moment.of(field.aspect, holidays_)), offset, on);
      offset += field.row.bits;
    }
    unsigned bucket = value_->bucket(value);
    if (bucket != ValueEncoder::kNoBucket) value_->encode(bucket, offset, on);
    return bucket;
  }

  void save(Writer& out) const { value_->save(out); }
  void restore(Reader& in) { value_->restore(in); }

 private:
  std::vector<DateField> date_;
  std::vector<Holiday> holidays_;
  std::unique_ptr<ValueEncoder> value_;
  unsigned value_offset_ = 0;
};

}  // namespace htm
