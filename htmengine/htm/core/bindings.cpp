// SPDX-License-Identifier: MIT
// The compiled core as the Python module htmengine.htm._core: the model, and its parts for tests and experiments.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "model.hpp"
#include "python_shared.hpp"

namespace py = pybind11;
using namespace htm;

namespace {

// What is expected after the classifier's step of this place: (value, probability) pairs, best first.
py::list prediction_list(const Classifier& classifier, size_t step) {
  py::list best;
  for (const Prediction& p : classifier.predict(step)) best.append(py::make_tuple(p.value, p.probability));
  return best;
}

using SharedModel = Shared<Model>;

double learn_row(SharedModel& shared, int64_t timestamp, double value, bool learning) {
  return shared.with([&](Model& model) {
    model.check(value);
    return model.row(timestamp, value, learning);
  });
}

// All values are checked first: either all rows are learnt or none.
Values learn_many(SharedModel& shared, const Timestamps& timestamps, const Values& values) {
  if (timestamps.ndim() != 1 || values.ndim() != 1 || timestamps.size() != values.size())
    throw std::invalid_argument("timestamps and values must be one-dimensional and of equal length");
  Values raw(values.size());
  const int64_t* timestamp = timestamps.data();
  const double* value = values.data();
  double* score = raw.mutable_data();
  py::ssize_t rows = values.size();
  shared.long_with([&](Model& model) {
    for (py::ssize_t i = 0; i < rows; ++i) model.check(value[i]);
    for (py::ssize_t i = 0; i < rows; ++i) score[i] = model.row(timestamp[i], value[i], true);
  });
  return raw;
}

// For each of the classifier's steps its (value, probability) pairs, best first; None without a classifier.
py::object predictions(SharedModel& shared, size_t steps) {
  return shared.with([&](Model& model) -> py::object {
    if (!model.classifier()) return py::none();
    py::list all;
    for (size_t step = 0; step < steps; ++step) all.append(prediction_list(*model.classifier(), step));
    return all;
  });
}

std::unique_ptr<SharedModel> restore(const ModelParams& params, const py::buffer& state) {
  py::buffer_info info = state.request();
  std::string_view bytes = bytes_of(info);
  auto shared = std::make_unique<SharedModel>(std::in_place, params);
  shared->long_with([&](Model& model) { model.restore(bytes.data(), bytes.size()); });
  return shared;
}

template <class T>
auto property(T (Model::*question)() const) {
  return [question](SharedModel& shared) { return shared.with([&](Model& model) { return (model.*question)(); }); };
}

void bind_params(py::module_& m) {
  py::enum_<Aspect>(m, "Aspect")
      .value("time_of_day", Aspect::time_of_day)
      .value("weekend", Aspect::weekend)
      .value("day_of_week", Aspect::day_of_week)
      .value("season", Aspect::season)
      .value("holiday", Aspect::holiday);
  py::enum_<ValueKind>(m, "ValueKind")
      .value("random_distributed_scalar", ValueKind::random_distributed)
      .value("scalar", ValueKind::scalar)
      .value("log", ValueKind::log)
      .value("delta", ValueKind::delta);
  py::class_<EncoderParams>(m, "EncoderParams")
      .def(py::init<>())
      .def_readwrite("kind", &EncoderParams::kind)
      .def_readwrite("bits", &EncoderParams::bits)
      .def_readwrite("width", &EncoderParams::width)
      .def_readwrite("resolution", &EncoderParams::resolution)
      .def_readwrite("offset", &EncoderParams::offset)
      .def_readwrite("seed", &EncoderParams::seed)
      .def_readwrite("minimum", &EncoderParams::minimum)
      .def_readwrite("maximum", &EncoderParams::maximum)
      .def_readwrite("step", &EncoderParams::step)
      .def_readwrite("periodic", &EncoderParams::periodic)
      .def_readwrite("clip", &EncoderParams::clip)
      .def("add_date",
           [](EncoderParams& p, Aspect aspect, unsigned bits, unsigned width, double span, double step, bool periodic) {
             p.date.push_back({aspect, {bits, width, 0, span, step, periodic}});
           })
      .def("add_holiday", [](EncoderParams& p, int year, int month, int day) {
        p.holidays.push_back({year, month, day});
      });
  py::class_<SpatialPoolerParams>(m, "SpatialPoolerParams")
      .def(py::init<>())
      .def_readwrite("inputs", &SpatialPoolerParams::inputs)
      .def_readwrite("columns", &SpatialPoolerParams::columns)
      .def_readwrite("active_columns", &SpatialPoolerParams::active_columns)
      .def_readwrite("potential_pct", &SpatialPoolerParams::potential_pct)
      .def_readwrite("connected", &SpatialPoolerParams::connected)
      .def_readwrite("increment", &SpatialPoolerParams::increment)
      .def_readwrite("decrement", &SpatialPoolerParams::decrement)
      .def_readwrite("learn_every", &SpatialPoolerParams::learn_every)
      .def_readwrite("seed", &SpatialPoolerParams::seed);
  py::class_<TemporalMemoryParams>(m, "TemporalMemoryParams")
      .def(py::init<>())
      .def_readwrite("columns", &TemporalMemoryParams::columns)
      .def_readwrite("cells_per_column", &TemporalMemoryParams::cells_per_column)
      .def_readwrite("activation_threshold", &TemporalMemoryParams::activation_threshold)
      .def_readwrite("min_threshold", &TemporalMemoryParams::min_threshold)
      .def_readwrite("new_synapses", &TemporalMemoryParams::new_synapses)
      .def_readwrite("initial_permanence", &TemporalMemoryParams::initial_permanence)
      .def_readwrite("connected_permanence", &TemporalMemoryParams::connected_permanence)
      .def_readwrite("increment", &TemporalMemoryParams::increment)
      .def_readwrite("decrement", &TemporalMemoryParams::decrement)
      .def_readwrite("max_synapses", &TemporalMemoryParams::max_synapses)
      .def_readwrite("max_segments", &TemporalMemoryParams::max_segments)
      .def_readwrite("pam_length", &TemporalMemoryParams::pam_length)
      .def_readwrite("max_sequence", &TemporalMemoryParams::max_sequence)
      .def_readwrite("max_inference", &TemporalMemoryParams::max_inference)
      .def_readwrite("max_learning", &TemporalMemoryParams::max_learning)
      .def_readwrite("predicted_segment_decrement", &TemporalMemoryParams::predicted_segment_decrement)
      .def_readwrite("seed", &TemporalMemoryParams::seed);
  py::class_<ClassifierParams>(m, "ClassifierParams")
      .def(py::init<>())
      .def_readwrite("alpha", &ClassifierParams::alpha)
      .def_readwrite("steps", &ClassifierParams::steps)
      .def_readwrite("act_value_alpha", &ClassifierParams::act_value_alpha);
  py::class_<ModelParams>(m, "ModelParams")
      .def(py::init<>())
      .def_readwrite("encoder", &ModelParams::encoder)
      .def_readwrite("spatial", &ModelParams::spatial)
      .def_readwrite("temporal", &ModelParams::temporal)
      .def_readwrite("plain", &ModelParams::plain)
      .def_readwrite("classify", &ModelParams::classify)
      .def_readwrite("classifier", &ModelParams::classifier);
}

// All live segments in slot order: each its cell and its (source cell, permanence in units) pairs, in order.
template <class Permanence, unsigned Words>
py::list segment_list(const Segments<Permanence, Words>& segments) {
  py::list all;
  segments.for_each_live([&](uint16_t segment) {
    py::list synapses;
    segments.for_each_synapse(
        segment, [&](uint16_t source, Permanence permanence) { synapses.append(py::make_tuple(source, permanence)); });
    all.append(py::make_tuple(segments.owner(segment), synapses));
  });
  return all;
}

// What both temporal memories have.
template <class Memory>
py::class_<Memory> bind_memory(py::module_& m, const char* name) {
  return py::class_<Memory>(m, name)
      .def(py::init<const TemporalMemoryParams&>())
      .def("row", &Memory::row)
      .def("segment_list", [](const Memory& memory) { return segment_list(memory.all_segments()); })
      .def_property_readonly("segments", &Memory::segments)
      .def_property_readonly("synapses", &Memory::synapses);
}

// Segments by themselves, which learn from sets of cells that the caller names.
class SegmentsPart {
 public:
  SegmentsPart(unsigned max_segments, unsigned max_synapses, uint64_t seed)
      : segments_(max_segments, max_synapses, permanence_units<uint8_t>(0.5)), random_(seed) {}

  uint16_t create(uint16_t owner) { return segments_.create(owner, 0); }

  unsigned adapt(uint16_t segment, const Cells& active, double up, double down) {
    return segments_.adapt(segment, set_of(active), permanence_units<uint8_t>(up), permanence_units<uint8_t>(down));
  }

  void grow(uint16_t segment, int wanted, const Cells& cells, double initial) {
    segments_.grow(segment, wanted, cells, set_of(cells), permanence_units<uint8_t>(initial), random_,
                   Scratch::of_this_thread());
  }

  py::list list() const { return segment_list(segments_); }
  size_t bytes() const { return segments_.bytes(); }

 private:
  static CellSet set_of(const Cells& cells) {
    CellSet set;
    set.insert_all(cells);
    return set;
  }

  Segments<uint8_t, 1> segments_;
  Random random_;
};

void bind_parts(py::module_& m) {
  py::class_<Encoders>(m, "Encoders")
      .def(py::init<const EncoderParams&>())
      .def_property_readonly("bits", &Encoders::bits)
      .def("encode", [](Encoders& e, int64_t timestamp, double value) {
        e.check(value);
        Bits on;
        unsigned bucket = e.encode(timestamp, value, on);
        return py::make_tuple(bucket, on);
      });
  m.def("bucket_bits", [](unsigned bits, unsigned width, uint64_t seed, unsigned bucket) {
    auto table = shared_table<BucketTable>(BucketTable::Parameters{bits, width, seed});
    if (bucket >= BucketTable::kBuckets) throw py::index_error("there are 1000 buckets");
    return Bits(table->bucket(bucket), table->bucket(bucket) + width);
  });
  py::class_<SpatialPooler>(m, "SpatialPooler")
      .def(py::init<const SpatialPoolerParams&>())
      .def("compute",
           [](SpatialPooler& pooler, const Bits& on, bool learning) {
             Columns winners;
             pooler.compute(on, learning, winners);
             return winners;
           })
      .def("overlaps", &SpatialPooler::overlaps)
      .def("permanences", &SpatialPooler::permanences)
      .def("set_permanence", &SpatialPooler::set_permanence)
      .def_property_readonly("learnt_columns", &SpatialPooler::learnt_columns);
  py::class_<SegmentsPart>(m, "Segments")
      .def(py::init<unsigned, unsigned, uint64_t>())
      .def("create", &SegmentsPart::create)
      .def("adapt", &SegmentsPart::adapt)
      .def("grow", &SegmentsPart::grow)
      .def("segment_list", &SegmentsPart::list)
      .def_property_readonly("bytes", &SegmentsPart::bytes);
  using Backtracking = BacktrackingMemory<uint8_t>;
  bind_memory<Backtracking>(m, "BacktrackingMemory")
      .def_property_readonly("predicted_columns", &Backtracking::predicted_columns)
      .def_property_readonly("hinted_columns", &Backtracking::hinted_columns)
      .def_property_readonly("at_sequence_start", &Backtracking::at_sequence_start);
  bind_memory<PlainMemory<uint8_t>>(m, "PlainMemory");
  py::class_<Classifier>(m, "Classifier")
      .def(py::init<const ClassifierParams&>())
      .def("row", &Classifier::row)
      .def("predict", &prediction_list);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled model core; htmengine.htm.model is its public face.";
  py::register_exception<CorruptState>(m, "CorruptState");
  bind_params(m);
  bind_parts(m);
  py::class_<SharedModel>(m, "Model")
      .def(py::init([](const ModelParams& params) { return std::make_unique<SharedModel>(std::in_place, params); }))
      .def("row", &learn_row)
      .def("learn_many", &learn_many)
      .def("predictions", &predictions)
      .def("save",
           [](SharedModel& shared) { return py::bytes(shared.long_with([](Model& model) { return model.save(); })); })
      .def_static("restore", &restore)
      .def_property_readonly("rows", property(&Model::rows))
      .def_property_readonly("segments", property(&Model::segments))
      .def_property_readonly("synapses", property(&Model::synapses))
      .def_property_readonly("bytes", property(&Model::bytes));
}
