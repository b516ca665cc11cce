// SPDX-License-Identifier: MIT
// The constants of all kinds of evidence; each is the same for every metric.
#pragma once

#include <cstddef>
#include <cstdint>

namespace evidence {

// --- the unit: decades of return period, in rows

constexpr double kCap = 7.0;  // no estimate is trusted beyond one event in ten million rows

// --- rarity: the peaks of a statistic

constexpr unsigned kPeaks = 32;          // highest events that are remembered
constexpr unsigned kLeastPeaks = 4;      // fewer tell nothing
constexpr uint32_t kEventRows = 12;      // rows after a peak that belong to its event
constexpr uint32_t kMemoryRows = 16128;  // 8 weeks of 5 minutes
constexpr uint32_t kForgetEvery = 288;   // rows
constexpr double kTailShare = 0.5;       // of the mean excess: the scale of the tail beyond the highest peak

// --- the height of a page

constexpr double kAloneWeight = 0.6;  // of the loudest kind that may page alone

// --- the kinds

constexpr unsigned kLevels[] = {1, 6, 36, 144};  // rows that are averaged
constexpr unsigned kSpread = 12;                 // rows whose standard deviation is taken
constexpr unsigned kJump = 6;                    // rows whose mean is compared with as many before
constexpr unsigned kLongest = 144;               // the longest of them
constexpr uint32_t kSpreadLeast = 100;           // rows before a spread is remembered
constexpr uint32_t kFloorRows = 200;             // first rows, whose deviation is the floor's unit
constexpr double kFloorShare = 1e-3;             // of that deviation: spreads below are alike
constexpr double kChangeShare = 1e-6;            // the same of the metric's first change, for what was constant before

constexpr unsigned kBlocks = 8;        // block means in a shape
constexpr unsigned kShapes = 256;      // earlier shapes that the newest is compared with
constexpr unsigned kShapesLeast = 20;  // up to so many tell nothing
constexpr uint32_t kShapeLeast = 100;  // rows before a distance is remembered
constexpr unsigned kBlockRows = 3;     // rows in a block

constexpr unsigned kHoursRing = 384;  // hours whose highest and lowest value are kept: 16 days
constexpr int kBoundsDays = 14;       // days that bound an hour of the day
constexpr unsigned kBoundsLeast = 6;  // known hours that bounds need
constexpr int kAwayDays = 13;         // days whose peaks are expected again
constexpr unsigned kAwayLeast = 4;    // of them known
constexpr int kAwayHours = 5;         // hours before this one in which the peak may have come

constexpr unsigned kSlots = 24;             // hours of the day
constexpr double kSeasonDays = 14;          // memory of an hour's mean and variance
constexpr double kSeasonFastest = 0.2;      // share of a row in them, at most
constexpr unsigned kSeasonPrior = 2;        // rows that the metric's own variance is worth
constexpr unsigned kSeasonLeast = 3;        // rows of an hour before it is known
constexpr uint32_t kSeasonFirst = 50;       // rows of the metric before any hour is known
constexpr double kSeasonFloorShare = 1e-3;  // of the metric's deviation
constexpr unsigned kSeasonLevel = 6;        // distances that are averaged
constexpr double kSeasonClip = 20.0;        // a distance counts as no more, in deviations

constexpr int64_t kSequenceLeast = 100;   // averages before the sequence tells anything
constexpr double kSequenceUnknown = 0.3;  // until then

// --- rounding, in the metric's own unit

constexpr double kRounding = 1e-12;             // of the metric's magnitude: what differs by less is equal
constexpr double kMagnitudeKept = 1 - 1. / 32;  // of the magnitude from row to row

// --- time

constexpr unsigned kIntervals = 31;            // first intervals, whose median is the step
constexpr unsigned kNewSteps = 12;             // intervals alike that are another step
constexpr unsigned kMisfit = 2;                // what one that is not counts against them
constexpr unsigned kDoubt = 3;                 // of them leave it open which step there is: nothing is told
constexpr int64_t kSettling = 2 * 86400;       // seconds after a new step in which nothing is told
constexpr double kUsualStep = 300.0;           // seconds; the step whose evidence is not shifted
constexpr double kPaceExponent = 0.5;          // between a test a row and a cost a week
constexpr double kPaceFrom = 1.5;              // decades that are shifted
constexpr int64_t kBin = 300;                  // seconds; faster rows are judged on means of so many
constexpr double kGapSteps = 12.0;             // a longer silence is a gap
constexpr int64_t kLatest = int64_t{1} << 42;  // seconds from 1970 in either direction

// --- numbers that no metric has: sums and squares stay finite, and what is small beside them is not lost for ever

constexpr double kFarthest = 1e140;  // values beyond count as this
constexpr double kNearest = 1e-140;  // a change that is smaller is none
constexpr double kLeap = 1e9;        // times the farthest value so far; a value beyond counts as this

constexpr unsigned kBandRows = 48;       // last values that the band comes from while the season is not known
constexpr unsigned kBandLeast = 4;       // without so many there is none
constexpr double kBandDeviations = 2.0;  // half its width

}  // namespace evidence
