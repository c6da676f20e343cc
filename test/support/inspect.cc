// A look inside a run, for tests: one step at a time, its planes and tables. run.ts has the other side. Only a
// checkout has this file, and only there does the addon have these exports.
#include <memory>
#include <stdexcept>

#include "../../native/binding/addon.h"
#include "../../native/binding/loss_scale_numbers.h"
#include "../../native/binding/run.h"

namespace riffle {
namespace {

// runStep(run, index, backward, images | null): Promise<void>. On what stands in planes and tables.
napi_value RunStep(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Run& run = SingleRun(env, args[0]);
    const ProgramInfo& p = run.program();
    const int index = static_cast<int>(Number(env, args[1], 0, static_cast<double>(p.steps.size()) - 1, "step"));
    const bool backward = Boolean(env, args[2]);
    if (backward && !p.training) throw std::invalid_argument("an inference program has no backward steps");
    const size_t bytes = static_cast<size_t>(p.batch) * p.image_size * p.image_size * 3;
    const uint8_t* images =
        IsNullish(env, args[3]) ? nullptr : Array<uint8_t>(env, args[3], napi_uint8_array, bytes, "images");
    auto turn = std::make_shared<Turn>(run);
    return Promise(
        env, {args[0], args[3]},
        [turn, index, backward, images] { (*turn)->executor->RunStep(index, backward, images); }, Undefined);
  });
}

// plane(run, id, gradient, write, values Float64Array [batch * height * width])
napi_value Plane(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 5);
    Run& run = SingleRun(env, args[0]);
    const ProgramInfo& p = run.program();
    const int id = static_cast<int>(Number(env, args[1], 0, static_cast<double>(p.planes.size()) - 1, "plane"));
    const bool write = Boolean(env, args[3]);
    const size_t count = p.batch * p.planes[id].height * p.planes[id].width;
    double* values = Array<double>(env, args[4], napi_float64_array, count, "values");
    const bool gradient = Boolean(env, args[2]);
    if (!run.executor->HasPlane(id, gradient)) throw std::invalid_argument("the plane has no gradient here");
    if (write) {
      run.executor->WritePlane(id, gradient, values);
    } else {
      run.executor->ReadPlane(id, gradient, values);
    }
    return Undefined(env);
  });
}

// table(run, which 0..5, write, values Float64Array [planes])
napi_value TableValues(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Run& run = SingleRun(env, args[0]);
    const auto table = static_cast<Table>(static_cast<int>(Number(env, args[1], 0, 5, "table")));
    double* values = Array<double>(env, args[3], napi_float64_array, run.program().planes.size(), "values");
    if (Boolean(env, args[2])) {
      run.executor->norm().WriteTable(table, values);
    } else {
      run.executor->norm().ReadTable(table, values);
    }
    return Undefined(env);
  });
}

// countSteps(scale [kind, scale, good, bad, consecutive], finite Uint8Array, after Float64Array [steps][5]): the loss scale
// after each step, the last of the five telling whether it is stuck.
napi_value CountSteps(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    LossScale scale = LossScaleFrom(Array<double>(env, args[0], napi_float64_array, 5, "loss scale"));
    const Span finite = TypedArray(env, args[1], napi_uint8_array, "steps");
    double* after = Array<double>(env, args[2], napi_float64_array, 5 * finite.length, "scales");
    for (size_t i = 0; i < finite.length; ++i) {
      scale.Count(static_cast<const uint8_t*>(finite.data)[i] != 0);
      *after++ = scale.scale;
      *after++ = static_cast<double>(scale.good);
      *after++ = static_cast<double>(scale.bad);
      *after++ = static_cast<double>(scale.consecutive);
      *after++ = scale.IsStuck();
    }
    return Undefined(env);
  });
}

}  // namespace

void RegisterInspect(napi_env env, napi_value exports) {
  Export(env, exports, "runStep", RunStep);
  Export(env, exports, "plane", Plane);
  Export(env, exports, "table", TableValues);
  Export(env, exports, "countSteps", CountSteps);
}

}  // namespace riffle
