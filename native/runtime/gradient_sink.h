// Whoever wants gradients while backward goes on: to send them to other machines, for instance.
#pragma once

namespace riffle {

class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // The gradients of a bucket (program.h), which this step's backward will not touch again. Buckets come in their order,
  // each once, on the thread that runs backward, which waits for the return. Until Wait the sink may change them.
  virtual void Ready(int bucket, float* begin, long count) = 0;
  // After the last bucket, before anybody else reads gradients: returns when all of them are what they shall be.
  virtual void Wait() = 0;
};

}  // namespace riffle
