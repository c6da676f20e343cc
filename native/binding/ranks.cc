// Ranks: one set of them in a process, joined once. src/distributed/join.ts has the other side.
#include "ranks.h"

#include <unistd.h>

#include <cstring>
#include <memory>
#include <stdexcept>

#include "../ranks/communicator.h"
#include "../ranks/exchanges.h"
#include "addon.h"
#include "door.h"

namespace riffle {
namespace {

// Never destroyed: a process may end while a thread waits in it.
Communicator* joined = nullptr;

Communicator& Joined() {
  if (!joined) throw std::invalid_argument("no ranks were joined");
  return *joined;
}

// joinRanks(library: string, family: string): Promise<{ rank, size, localRank, localSize, machines, hasCores, version }>. MPI is
// started; the library is a path, or empty for that of the family.
napi_value JoinRanks(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    if (joined) throw std::invalid_argument("ranks are joined once");
    return Promise(
        env, {}, [library = Text(env, args[0]), family = Text(env, args[1])] { joined = new Communicator(library, family); },
        [](napi_env e) {
          napi_value object;
          Check(e, napi_create_object(e, &object));
          const Communicator& ranks = *joined;
          SetProperty(e, object, "rank", MakeNumber(e, ranks.rank()));
          SetProperty(e, object, "size", MakeNumber(e, ranks.size()));
          SetProperty(e, object, "localRank", MakeNumber(e, ranks.neighbours().rank));
          SetProperty(e, object, "localSize", MakeNumber(e, ranks.neighbours().size));
          SetProperty(e, object, "machines", MakeNumber(e, ranks.machines()));
          SetProperty(e, object, "library", MakeText(e, ranks.library()));
          return object;
        });
  });
}

// gatherBytes(tag: string, bytes: Uint8Array, patient: boolean): Promise<Uint8Array[]>
napi_value GatherBytes(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    const Span bytes = TypedArray(env, args[1], napi_uint8_array, "bytes");
    auto all = std::make_shared<std::vector<std::string>>();
    return Promise(
        env, {args[1]},
        [all, tag = Text(env, args[0]), own = std::string(static_cast<const char*>(bytes.data), bytes.length),
         patient = Boolean(env, args[2]), &ranks = Joined()] { *all = ranks.Gather(tag, own, patient); },
        [all](napi_env e) {
          std::vector<napi_value> values;
          for (const std::string& one : *all) values.push_back(MakeBytes(e, {one.begin(), one.end()}));
          return MakeArray(e, values);
        });
  });
}

// setPlace(phase: number, step: number): what this rank is doing, for the others to say when it is late.
napi_value SetPlace(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const auto phase = static_cast<Phase>(static_cast<int>(Number(env, args[0], 0, static_cast<int>(Phase::kEnding), "phase")));
    Joined().watch().SetPlace(phase, static_cast<int64_t>(Number(env, args[1], 0, 1e15, "step")));
    return Undefined(env);
  });
}

// setWatch(timeoutSeconds: number, advice: string): how long a late rank is waited for, and what is said after that.
napi_value SetWatch(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    Joined().watch().SetTimeout(Number(env, args[0], 0.1, 1e9, "time-out"));
    Joined().watch().SetAdvice(Text(env, args[1]));
    return Undefined(env);
  });
}

// stopping(): this rank was asked to stop; failing(): it says itself what ends it.
napi_value Stopping(napi_env env, napi_callback_info) {
  return Guard(env, [&] {
    Joined().watch().RequestStop();
    return Undefined(env);
  });
}

napi_value Failing(napi_env env, napi_callback_info) {
  return Guard(env, [&] {
    Joined().watch().Failing();
    return Undefined(env);
  });
}

// leave(code: number): ends the process at once, whatever its threads wait for.
napi_value Leave(napi_env env, napi_callback_info info) {
  return Guard(env, [&]() -> napi_value { _exit(static_cast<int>(Number(env, Arguments(env, info, 1)[0], 0, 255, "exit code"))); });
}

// closeRanks(): Promise<void>. All ranks call it; nothing that they shared may be looked at afterwards.
napi_value CloseRanks(napi_env env, napi_callback_info) {
  return Guard(env, [&] { return Promise(env, {}, [&ranks = Joined()] { ranks.Finalize(); }, Undefined); });
}

}  // namespace

std::unique_ptr<Exchange> MakeExchange(const std::string& kind, const ProgramInfo& program) {
  if (kind == "none") return nullptr;
  if (!program.training) throw std::invalid_argument("ranks that infer exchange nothing");
  if (kind == "window") return MakeWindowExchange(Joined(), program);
  if (kind == "messages") return MakeMessageExchange(Joined(), program, false);
  if (kind == "overlapped") return MakeMessageExchange(Joined(), program, true);
  throw std::invalid_argument("no such exchange: " + kind);
}

void RegisterRanks(napi_env env, napi_value exports) {
  Export(env, exports, "joinRanks", JoinRanks);
  Export(env, exports, "gatherBytes", GatherBytes);
  Export(env, exports, "setPlace", SetPlace);
  Export(env, exports, "setWatch", SetWatch);
  Export(env, exports, "stopping", Stopping);
  Export(env, exports, "failing", Failing);
  Export(env, exports, "leave", Leave);
  Export(env, exports, "closeRanks", CloseRanks);
}

}  // namespace riffle
