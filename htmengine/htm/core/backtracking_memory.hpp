// SPDX-License-Identifier: MIT
// The backtracking temporal memory (NuPIC's "cpp", first known as TP10X2).
//
// Each column has a start cell, "this column with no known past", and cells that stand for it in a learnt context.
// Inference and learning are separate: inference keeps every context that fits, learning follows one cell a column.
// Either, when it is lost, goes back some rows and tries which of them, taken as the start of a sequence, leads to
// the present.  With `max_inference` 0 inference never goes back: a column that was not predicted bursts, which keeps
// so many contexts that what they predict is looked up only for the columns that are active next.
#pragma once

#include <algorithm>
#include <numeric>

#include "history.hpp"
#include "memory.hpp"
#include "segments.hpp"

namespace htm {

template <class Permanence, unsigned Words = 1>
class BacktrackingMemory final : public TemporalMemory {
 public:
  explicit BacktrackingMemory(const TemporalMemoryParams& params)
      : params_(params),
        initial_(permanence_units<Permanence>(params.initial_permanence)),
        increment_(permanence_units<Permanence>(params.increment)),
        decrement_(permanence_units<Permanence>(params.decrement)),
        all_cells_(all_cells_of(params)),
        segments_(params.max_segments, params.max_synapses, permanence_units<Permanence>(params.connected_permanence)),
        random_(params.seed),
        predicted_(params.columns, 0),
        hinted_(params.columns, 0),
        inference_history_(params.max_inference + 1),
        matches_(params.columns),
        previous_matches_(params.columns),
        learning_history_(params.max_learning + 1),
        pam_(params.pam_length) {}

  double row(const Columns& active, bool learning) override {
    scratch_ = &Scratch::of_this_thread();
    ++rows_;
    if (bursts()) predict_of(active);
    size_t unexpected = 0;
    for (uint16_t column : active) unexpected += !hinted_[column];
    double size = static_cast<double>(active.size());
    density_ = rows_ == 1 ? size : 0.99 * density_ + 0.01 * size;
    infer(active);
    if (learning) learn(active);
    return active.empty() ? 0.0 : static_cast<double>(unexpected) / size;
  }

  void context(Cells& cells) const override {
    context_of(active_, bursts() ? params_.cells_per_column / 4 : params_.cells_per_column - 1, cells);
  }

  // Columns with a cell that is predicted for the next row; columns that count as expected there.
  unsigned predicted_columns() {
    look_ahead();
    return static_cast<unsigned>(predicted_.size() -
                                 static_cast<size_t>(std::count(predicted_.begin(), predicted_.end(), 0u)));
  }
  unsigned hinted_columns() {
    look_ahead();
    return static_cast<unsigned>(std::count(hinted_.begin(), hinted_.end(), 1));
  }

  // Whether learning stands on start cells: the row began a sequence.
  bool at_sequence_start() const {
    return std::all_of(learning_.begin(), learning_.end(), [](uint16_t cell) { return cell % kCellsPerColumn == 0; });
  }

  const Segments<Permanence, Words>& all_segments() const { return segments_; }
  unsigned segments() const override { return segments_.live(); }
  size_t synapses() const override { return segments_.synapses(); }

  size_t bytes() const override {
    return sizeof *this + segments_.bytes() + predicted_.capacity() * sizeof(uint32_t) + hinted_.capacity() +
           (matches_.capacity() + previous_matches_.capacity()) * sizeof(Match) + inference_history_.bytes() +
           learning_history_.bytes() + (active_.capacity() + kept_active_.capacity()) * sizeof(ColumnCells) +
           (learning_.capacity() + previous_learning_.capacity()) * sizeof(uint16_t);
  }

  void save(Writer& out) const override;
  void restore(Reader& in) override;

 private:
  // What is expected of the next row: state of inference that goes back.
  void save_predictions(Writer& out) const;
  void restore_predictions(Reader& in);

  struct Match {
    uint16_t segment = 0;
    uint8_t count = 0;  // 0: none
  };

  // --- inference: which cells are active, which columns are expected next

  void infer(const Columns& columns) {
    if (bursts()) {
      activate(columns, false);
      return;
    }
    inference_history_.push(columns);
    if (!(activate(columns, false) && predict())) backtrack();
  }

  // Activates the predicted cells of each column, in a column without any all cells (it bursts), or at the start
  // of a sequence its start cell.  Returns whether at least half of the columns were predicted.
  bool activate(const Columns& columns, bool from_start) {
    size_t predicted = 0;
    active_.clear();
    for (uint16_t column : columns) {
      uint32_t cells = from_start ? 1u : predicted_[column];
      predicted += cells != 0;
      active_.push_back({column, cells ? cells : all_cells_});
    }
    return 2 * predicted >= columns.size();
  }

  // What the active cells predict.  Returns whether about as many columns as usual are predicted: at least half of
  // that.
  bool predict() {
    scratch_->wanted = scratch_->all;
    return predict_wanted() >= density_ / 2;
  }

  // The same for these columns alone.
  void predict_of(const Columns& columns) {
    scratch_->wanted.clear();
    for (uint16_t column : columns) scratch_->wanted.insert({column, all_cells_});
    predict_wanted();
  }

  // Enough active synapses make a column expected, enough connected ones make the cell predicted.  Returns how many
  // columns are predicted.
  unsigned predict_wanted() {
    std::fill(predicted_.begin(), predicted_.end(), 0);
    std::fill(hinted_.begin(), hinted_.end(), 0);
    unsigned columns = 0;
    CellSet& wanted = scratch_->wanted;
    segments_.for_each_excited(active_, wanted, params_.activation_threshold, *scratch_,
                               [&](uint16_t segment, unsigned, unsigned connected) {
                                 uint16_t cell = segments_.owner(segment);
                                 uint32_t& predicted = predicted_[column_of(cell)];
                                 hinted_[column_of(cell)] = 1;
                                 if (connected < params_.activation_threshold) return;
                                 columns += predicted == 0;
                                 predicted |= bit_of(cell);
                                 wanted.erase(cell);  // its other segments say no more
                               });
    return columns;
  }

  // Inference is lost: the oldest recent row that, taken as the start of a sequence, explains all later ones.
  void backtrack() {
    kept_active_ = active_;
    for (size_t start = 0; start < inference_history_.size(); ++start)
      if (infer_from(start)) {
        inference_history_.drop(start + 1);
        return;
      }
    active_ = kept_active_;
    predict();
    inference_history_.clear();
  }

  bool infer_from(size_t start) {
    for (size_t row = start; row < inference_history_.size(); ++row)
      if (!(activate(inference_history_[row], row == start) && predict())) return false;
    return true;
  }

  // --- inference that bursts

  bool bursts() const { return params_.max_inference == 0; }

  // Predicts before the next row comes.
  void look_ahead() {
    if (!bursts()) return;
    scratch_ = &Scratch::of_this_thread();
    predict();
  }

  // --- learning: one cell a column, one context at a time

  void learn(const Columns& columns) {
    step();
    learning_history_.push(columns);
    reinforce_followed(columns);
    pam_ = pam_ > 0 ? pam_ - 1 : 0;
    ++run_;
    if (follow(columns, true)) pam_ = params_.pam_length;
    if (pam_ == 0 || (params_.max_sequence > 0 && run_ >= params_.max_sequence)) {
      run_ = relock();
      if (run_ == 0) {
        learn_from_start(columns);
        learning_history_.clear();
      }
      pam_ = params_.pam_length;
    }
    match();
    scratch_->previous.erase_all(previous_learning_);
  }

  // The present becomes the previous row; match() will renew the present one's matches.
  void step() {
    scratch_->previous.erase_all(previous_learning_);
    std::swap(previous_learning_, learning_);
    std::swap(previous_matches_, matches_);
    scratch_->previous.insert_all(previous_learning_);
  }

  void learn_from_start(const Columns& columns) {
    learning_.clear();
    for (uint16_t column : columns) learning_.push_back(cell_number(column, 0));
  }

  // Goes on to the cell of each column that the previous row leads to; with `write`, columns that nothing leads to
  // learn.  Returns whether learning is still in sequence: fewer than half of the columns were new.
  bool follow(const Columns& columns, bool write) {
    size_t misses = 0;
    learning_.clear();
    for (uint16_t column : columns) {
      Match match = previous_matches_[column];
      if (match.count >= params_.activation_threshold) {
        learning_.push_back(segments_.owner(match.segment));
        continue;
      }
      ++misses;
      if (write) learn_new(column, match);
    }
    return misses < columns.size() / 2;
  }

  // The best matching segment learns this transition, or a new one on a random cell.
  void learn_new(uint16_t column, Match match) {
    if (match.count >= params_.min_threshold) {
      learning_.push_back(segments_.owner(match.segment));
      reinforce(match.segment);
    } else {
      learning_.push_back(cell_number(column, 1 + random_.below(params_.cells_per_column - 1)));
      grow(learning_.back());
    }
  }

  // Learning is lost, or the sequence long enough: goes on from the oldest recent row that, taken as its start,
  // leads to the present.  Returns how many rows back that is, 0 without one.
  unsigned relock() {
    size_t earlier = learning_history_.size() - 1;
    for (size_t start = 0; start < earlier; ++start)
      if (replay(start, false)) {
        replay(start, true);
        learning_history_.drop(start + 1);
        return static_cast<unsigned>(earlier - start);
      }
    return 0;
  }

  bool replay(size_t start, bool write) {
    for (size_t row = start;; ++row) {
      const Columns& columns = learning_history_[row];
      step();
      bool in_sequence = true;
      if (row == start) {
        learn_from_start(columns);
      } else {
        if (write) reinforce_followed(columns);
        in_sequence = follow(columns, write);
      }
      if (!in_sequence || row + 1 == learning_history_.size()) return in_sequence;
      match();
    }
  }

  // Each column's segment that matches the learning cells best: of equals that on the highest cell, then the lowest
  // slot.  Permanence plays no part.
  void match() {
    std::fill(matches_.begin(), matches_.end(), Match{});
    segments_.for_each_excited(
        learning_, scratch_->all, params_.min_threshold, *scratch_, [&](uint16_t segment, unsigned count, unsigned) {
          uint16_t cell = segments_.owner(segment);
          Match& best = matches_[column_of(cell)];
          uint16_t rival = segments_.owner(best.segment);
          if (count > best.count ||
              (count == best.count && (cell > rival || (cell == rival && segment < best.segment))))
            best = {segment, static_cast<uint8_t>(count)};
        });
  }

  // --- segments

  void reinforce_followed(const Columns& columns) {
    for (uint16_t column : columns) {
      Match match = previous_matches_[column];
      if (match.count >= params_.activation_threshold) reinforce(match.segment);
    }
  }

  // The segment's synapses from the previous learning cells grow stronger, the others weaker, and new ones come.
  void reinforce(uint16_t segment) {
    unsigned active = segments_.adapt(segment, scratch_->previous, increment_, -decrement_);
    connect(segment, static_cast<int>(params_.new_synapses) - static_cast<int>(active));
    segments_.use(segment, rows_);
  }

  // A new segment on the cell, from the previous learning cells.
  void grow(uint16_t cell) {
    if (previous_learning_.empty()) return;
    if (segments_.full()) forget(segments_.stalest(random_));
    uint16_t segment = segments_.create(cell, rows_);
    connect(segment, static_cast<int>(params_.new_synapses));
  }

  void connect(uint16_t segment, int wanted) {
    segments_.grow(segment, wanted, previous_learning_, scratch_->previous, initial_, random_, *scratch_);
  }

  void forget(uint16_t segment) {
    unsigned column = column_of(segments_.owner(segment));
    for (Match* match : {&matches_[column], &previous_matches_[column]})
      if (match->segment == segment) match->count = 0;
    segments_.destroy(segment);
  }

  TemporalMemoryParams params_;
  int initial_, increment_, decrement_;  // in units of Permanence
  uint32_t all_cells_;
  Segments<Permanence, Words> segments_;
  Random random_;
  Scratch* scratch_ = nullptr;  // this thread's, during a row

  uint32_t rows_ = 0;
  double density_ = 0;               // the usual number of active columns
  std::vector<ColumnCells> active_;  // the row's active cells, by column
  std::vector<ColumnCells> kept_active_;
  //: by column: cells predicted for the next row, and 1 where the next row is expected.  Inference that bursts finds
  //: them out when that row comes.
  std::vector<uint32_t> predicted_;
  std::vector<uint8_t> hinted_;
  History inference_history_;

  Cells learning_, previous_learning_;  // one cell for each active column
  std::vector<Match> matches_, previous_matches_;
  History learning_history_;
  unsigned pam_;      // rows that learning may still be out of sequence ("pay attention mode")
  unsigned run_ = 0;  // rows since the sequence that learning follows began
};

template <class Permanence, unsigned Words>
void BacktrackingMemory<Permanence, Words>::save(Writer& out) const {
  out.number(rows_);
  out.number(random_.state());
  out.real(density_);
  out.number(static_cast<uint32_t>(pam_));
  out.number(static_cast<uint32_t>(run_));
  if (bursts()) {
    save_columns(active_, out);
  } else {
    save_predictions(out);
  }
  out.ascending(learning_);
  learning_history_.save(out);
  segments_.save(out);
}

template <class Permanence, unsigned Words>
void BacktrackingMemory<Permanence, Words>::save_predictions(Writer& out) const {
  std::vector<ColumnCells> predicted;
  Columns hinted;
  for (unsigned column = 0; column < params_.columns; ++column) {
    if (predicted_[column]) predicted.push_back({static_cast<uint16_t>(column), predicted_[column]});
    if (hinted_[column]) hinted.push_back(static_cast<uint16_t>(column));
  }
  save_columns(predicted, out);
  out.ascending(hinted);
  inference_history_.save(out);
}

template <class Permanence, unsigned Words>
void BacktrackingMemory<Permanence, Words>::restore(Reader& in) {
  rows_ = in.number<uint32_t>();
  random_.set_state(in.number<uint64_t>());
  density_ = in.real();
  require(density_ >= 0 && density_ <= params_.columns, "density");
  pam_ = in.number_to<uint32_t>(params_.pam_length, "pam");
  run_ = in.number<uint32_t>();
  if (bursts()) {
    active_ = restore_columns(in, params_.columns, all_cells_);
  } else {
    restore_predictions(in);
  }
  learning_ = in.ascending(params_.columns, kMaxCells - 1, "learning cells");
  for (size_t i = 0; i < learning_.size(); ++i)
    require(column_of(learning_[i]) < params_.columns && learning_[i] % kCellsPerColumn < params_.cells_per_column &&
                (i == 0 || column_of(learning_[i - 1]) < column_of(learning_[i])),
            "learning cells");
  learning_history_.restore(in, params_.columns);
  segments_.restore(in, params_.columns, params_.cells_per_column);
  scratch_ = &Scratch::of_this_thread();
  match();
}

template <class Permanence, unsigned Words>
void BacktrackingMemory<Permanence, Words>::restore_predictions(Reader& in) {
  for (const ColumnCells& c : restore_columns(in, params_.columns, all_cells_)) predicted_[c.column] = c.cells;
  for (uint16_t column : in.ascending(params_.columns, params_.columns - 1, "expected columns")) hinted_[column] = 1;
  inference_history_.restore(in, params_.columns);
}

}  // namespace htm
