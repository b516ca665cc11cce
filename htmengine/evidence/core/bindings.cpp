// SPDX-License-Identifier: MIT
// The compiled evidence as the Python module htmengine.evidence._evidence.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../../htm/core/python_shared.hpp"
#include "detector.hpp"

namespace py = pybind11;
using namespace evidence;
using htm::bytes_of;
using htm::Shared;
using htm::Timestamps;
using htm::Values;

namespace {

void require_rows(const py::array& array, py::ssize_t rows, const char* name) {
  if (array.ndim() != 1 || array.size() != rows)
    throw std::invalid_argument(std::string(name) + ": must be one-dimensional and as long as the others");
}

using SharedDetector = Shared<Detector>;
using SharedLikelihood = Shared<Likelihood>;

// What n rows say; an array each.
struct Columns {
  explicit Columns(py::ssize_t rows)
      : scores(rows),
        heights(rows),
        evidence({rows, kinds}),
        sides({rows, kinds}),
        expected({rows, py::ssize_t{3}}),
        likelihoods(rows) {}

  void put(py::ssize_t row, const Detector& detector) {
    score[row] = detector.score();
    height[row] = detector.height();
    likelihood[row] = detector.likelihood();
    for (py::ssize_t kind = 0; kind < kinds; ++kind) {
      decades[row * kinds + kind] = detector.findings()[kind].decades;
      side[row * kinds + kind] = static_cast<uint8_t>(detector.findings()[kind].side);
    }
    Expected unknown{std::nan(""), std::nan(""), std::nan("")};
    Expected now = detector.expected().value_or(unknown);
    band[3 * row] = now.value;
    band[3 * row + 1] = now.low;
    band[3 * row + 2] = now.high;
  }

  static constexpr py::ssize_t kinds = kKinds;
  Values scores, heights, evidence;
  py::array_t<uint8_t> sides;
  Values expected, likelihoods;
  double *score = scores.mutable_data(), *height = heights.mutable_data(), *decades = evidence.mutable_data();
  double *band = expected.mutable_data(), *likelihood = likelihoods.mutable_data();
  uint8_t* side = sides.mutable_data();
};

// Columns of n rows.  All are checked first: either all are learnt or none.
py::tuple update_many(SharedDetector& shared, const Timestamps& timestamps, const Values& values, const Values& raws) {
  py::ssize_t rows = values.size();
  require_rows(timestamps, rows, "timestamps");
  require_rows(values, rows, "values");
  require_rows(raws, rows, "raws");
  Columns columns(rows);
  const int64_t* timestamp = timestamps.data();
  const double *value = values.data(), *raw = raws.data();
  shared.long_with([&](Detector& detector) {
    for (py::ssize_t i = 0; i < rows; ++i) detector.check(timestamp[i], raw[i]);
    for (py::ssize_t i = 0; i < rows; ++i) {
      detector.update(timestamp[i], value[i], raw[i]);
      columns.put(i, detector);
    }
  });
  return py::make_tuple(columns.scores, columns.heights, columns.evidence, columns.sides, columns.expected,
                        columns.likelihoods);
}

double score_row(Likelihood& likelihood, double value, double raw) {
  uint8_t count = likelihood.raw_scores().count_of(raw);
  if (!std::isfinite(value)) throw std::invalid_argument("value: " + std::to_string(value) + " is not finite");
  likelihood.put(count);
  double score = likelihood.score(value);
  likelihood.learn(value);
  return score;
}

void bind_likelihood(py::module_& m) {
  py::class_<LikelihoodParams>(m, "LikelihoodParams")
      .def(py::init<>())
      .def_readwrite("active_columns", &LikelihoodParams::active_columns)
      .def_readwrite("range_rule", &LikelihoodParams::range_rule)
      .def_readwrite("resolution", &LikelihoodParams::resolution)
      .def_readwrite("window", &LikelihoodParams::window)
      .def_readwrite("skip", &LikelihoodParams::skip)
      .def_readwrite("min_sample", &LikelihoodParams::min_sample)
      .def_readwrite("min_averages", &LikelihoodParams::min_averages)
      .def_readwrite("single_precision", &LikelihoodParams::single_precision);
  py::class_<SharedLikelihood>(m, "Likelihood")
      .def(py::init(
          [](const LikelihoodParams& params) { return std::make_unique<SharedLikelihood>(std::in_place, params); }))
      .def("score",
           [](SharedLikelihood& shared, double value, double raw) {
             return shared.with([&](Likelihood& likelihood) { return score_row(likelihood, value, raw); });
           })
      .def("save",
           [](SharedLikelihood& shared) {
             return shared.with([](Likelihood& likelihood) {
               Writer out;
               likelihood.save(out);
               return py::make_tuple(py::bytes(out.take()), py::bytes(likelihood.raw_scores().counts()));
             });
           })
      .def_static("restore",
                  [](const py::buffer& head, const py::buffer& counts) {
                    py::buffer_info head_info = head.request(), counts_info = counts.request();
                    std::string_view state = bytes_of(head_info), rows = bytes_of(counts_info);
                    Reader in(state.data(), state.size());
                    Likelihood likelihood =
                        Likelihood::restored(in, reinterpret_cast<const uint8_t*>(rows.data()), rows.size());
                    in.finish();
                    return std::make_unique<SharedLikelihood>(std::in_place, std::move(likelihood));
                  })
      .def_property_readonly(
          "rows",
          [](SharedLikelihood& shared) { return shared.with([](Likelihood& l) { return l.raw_scores().rows(); }); })
      .def_property(
          "range_rule",
          [](SharedLikelihood& shared) { return shared.with([](Likelihood& l) { return l.params().range_rule; }); },
          [](SharedLikelihood& shared, bool on) { shared.with([&](Likelihood& l) { l.set_range_rule(on); }); });
}

template <class T>
auto property(T (Detector::*question)() const) {
  return [question](SharedDetector& shared) { return shared.with([&](Detector& d) { return (d.*question)(); }); };
}

void bind_detector(py::module_& m) {
  py::class_<SharedDetector>(m, "Detector")
      .def(py::init([](SharedLikelihood& shared, double gap_steps) {
        return shared.with([&](Likelihood& likelihood) {
          return std::make_unique<SharedDetector>(std::in_place, likelihood, gap_steps);
        });
      }))
      .def("update",
           [](SharedDetector& shared, int64_t timestamp, double value, double raw) {
             return shared.with([&](Detector& detector) {
               detector.check(timestamp, raw);
               return detector.update(timestamp, value, raw);
             });
           })
      .def("update_many", &update_many)
      .def_property_readonly("evidence",
                             [](SharedDetector& shared) {
                               return shared.with([](Detector& detector) {
                                 std::array<double, kKinds> decades;
                                 for (unsigned kind = 0; kind < kKinds; ++kind)
                                   decades[kind] = detector.findings()[kind].decades;
                                 return decades;
                               });
                             })
      .def_property_readonly("sides",
                             [](SharedDetector& shared) {
                               return shared.with([](Detector& detector) {
                                 std::array<int, kKinds> sides;
                                 for (unsigned kind = 0; kind < kKinds; ++kind)
                                   sides[kind] = static_cast<int>(detector.findings()[kind].side);
                                 return sides;
                               });
                             })
      .def_property_readonly("expected",
                             [](SharedDetector& shared) -> py::object {
                               auto expected = shared.with([](Detector& detector) { return detector.expected(); });
                               if (!expected) return py::none();
                               return py::make_tuple(expected->value, expected->low, expected->high);
                             })
      .def("paced",
           [](SharedDetector& shared, const Values& evidence) {
             return shared.with(
                 [&](Detector& d) { return py::vectorize([&](double e) { return d.paced(e); })(evidence); });
           })
      .def_property_readonly("height", property(&Detector::height))
      .def_property_readonly("likelihood", property(&Detector::likelihood))
      .def_property_readonly("step", property(&Detector::step))
      .def_property_readonly("interval", property(&Detector::interval))
      .def_property_readonly("changed_at", property(&Detector::changed_at))
      .def_property_readonly("rows", property(&Detector::rows))
      .def_property_readonly("values", property(&Detector::values))
      .def_property_readonly("bytes", property(&Detector::bytes))
      .def("save",
           [](SharedDetector& shared) { return py::bytes(shared.long_with([](Detector& d) { return d.save(); })); })
      .def_static("restore", [](const py::buffer& state) {
        py::buffer_info info = state.request();
        std::string_view bytes = bytes_of(info);
        py::gil_scoped_release release;
        return std::make_unique<SharedDetector>(std::in_place, Detector::restored(bytes.data(), bytes.size()));
      });
}

}  // namespace

PYBIND11_MODULE(_evidence, m) {
  m.doc() = "The compiled evidence; htmengine.evidence.Detector and AnomalyLikelihood are its public faces.";
  py::register_local_exception<htm::CorruptState>(m, "CorruptState");
  m.attr("KINDS") = static_cast<unsigned>(kKinds);
  m.attr("FUSED") = static_cast<unsigned>(kFused);
  m.attr("MEMORY_ROWS") = kMemoryRows;
  m.attr("GAP_STEPS") = kGapSteps;
  bind_likelihood(m);
  bind_detector(m);
}
