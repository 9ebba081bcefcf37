"""Writes gpu-made-up.json: a Kineto trace that is made up, as PyTorch 2.x on a GPU would write it.

Nothing here was recorded. Two ranks of DDP with NCCL; the network is conv (3 -> 64, 11x11, stride 4)
- relu - flatten - linear (61504 -> 100); batch 64 of 128 px; two profiled steps. The host launches
faster than the GPU computes and never waits, so it runs ahead. Durations are plausible, not measured.

Format after kineto's writer (libkineto/src/output_json.cpp, CuptiActivity.cpp): pid = device and
tid = stream for what runs on the GPU; `correlation` ties it to the cuda_runtime event that launched
it; `External id` ties both to the innermost cpu_op; NCCL kernels carry what record_param_comms says.
"""
import contextlib, json

PID, MAIN, AUTOGRAD, DEVICE, COMPUTE, NCCL = 4242, 4242, 4310, 0, 7, 20
BASE_NS = 1748736000000000000
T0 = 1_234_567_000_000  # ns after BASE_NS


class Writer:
    def __init__(self):
        self.events, self.flows = [], []
        self.now = {MAIN: T0, AUTOGRAD: T0}
        self.stream = {COMPUTE: T0, NCCL: T0}
        self.external, self.correlation, self.index = 1000, 5000, 0
        self.stack = {MAIN: [], AUTOGRAD: []}
        self.annotations = []  # open user annotations, for gpu_user_annotation
        self.gpu_spans = {}

    def ts(self, ns):
        return Micro(ns)

    @contextlib.contextmanager
    def op(self, name, tid=MAIN, cat="cpu_op", seq=None, fwd=None, dims=None, types=None, concrete=None, own=4_000, extra=None):
        self.external += 1
        ext = self.external
        args = {"External id": ext}
        if seq is not None:
            args["Sequence number"], args["Fwd thread id"] = seq, fwd or 0
        args["Record function id"] = 0
        if dims is not None:
            args["Concrete Inputs"] = concrete or [""] * len(dims)
            args["Input type"], args["Input Dims"] = types or ["float"] * len(dims), dims
        args["Ev Idx"] = self.index
        args.update(extra or {})
        self.index += 1
        e = {"ph": "X", "cat": cat, "name": name, "pid": PID, "tid": tid, "ts": None, "dur": None, "args": args}
        self.events.append(e)
        self.now[tid] += own // 2
        begin = self.now[tid]
        self.stack[tid].append((name, cat, ext))
        if cat == "user_annotation":
            self.annotations.append((name, ext))
        yield e
        self.now[tid] += own
        e["ts"], e["dur"] = Micro(begin), Micro(self.now[tid] - begin)
        self.stack[tid].pop()
        if cat == "user_annotation":
            self.annotations.remove((name, ext))

    def runtime(self, name, tid, cbid, took=4_500):
        self.correlation += 1
        begin = self.now[tid]
        self.now[tid] += took
        ops = [s for s in self.stack[tid] if s[1] == "cpu_op"]
        ext = {"External id": ops[-1][2]} if ops else {}
        self.events.append({"ph": "X", "cat": "cuda_runtime", "name": name, "pid": PID, "tid": tid, "ts": Micro(begin),
                            "dur": Micro(took), "args": {**ext, "cbid": cbid, "correlation": self.correlation}})
        return self.correlation, begin, ext

    def gpu(self, name, us, tid=MAIN, stream=COMPUTE, cat="kernel", after=0, bytes=None, grid=(432, 1, 1), block=(256, 1, 1), extra=None):
        api = {"kernel": ("cudaLaunchKernel", 211), "gpu_memcpy": ("cudaMemcpyAsync", 41), "gpu_memset": ("cudaMemsetAsync", 51)}[cat]
        if stream == NCCL:
            api = ("cudaLaunchKernelExC", 430)
        c, launched, ext = self.runtime(api[0], tid, api[1])
        begin = max(self.stream[stream] + 1_200, launched + 6_000, after)  # 1.2 us between kernels
        took = round(us * 1000)
        self.stream[stream] = begin + took
        if cat == "kernel":
            args = {**ext, "queued": 0, "device": DEVICE, "context": 1, "stream": stream, "correlation": c,
                    "registers per thread": 32, "shared memory": 0, "blocks per SM": Raw(f"{grid[0] / 108:.6f}"),
                    "warps per SM": Raw(f"{grid[0] * block[0] / 32 / 108:.6f}"), "grid": list(grid), "block": list(block),
                    "est. achieved occupancy %": 100, "graph node id": 0, "graph id": 0}
        else:
            args = {**ext, "device": DEVICE, "context": 1, "stream": stream, "correlation": c, "bytes": bytes,
                    "memory bandwidth (GB/s)": Raw(f"{bytes / took:.6f}")}
        args.update(extra or {})
        self.events.append({"ph": "X", "cat": cat, "name": name, "pid": DEVICE, "tid": stream, "ts": Micro(begin), "dur": Micro(took), "args": args})
        self.flows.append({"ph": "s", "id": c, "pid": PID, "tid": tid, "ts": Micro(launched), "cat": "ac2g", "name": "ac2g"})
        self.flows.append({"ph": "f", "id": c, "pid": DEVICE, "tid": stream, "ts": Micro(begin), "cat": "ac2g", "name": "ac2g", "bp": "e"})
        for name_, ext_ in self.annotations:
            a, b = self.gpu_spans.get((name_, ext_, stream), (begin, 0))
            self.gpu_spans[(name_, ext_, stream)] = (min(a, begin), max(b, begin + took))
        return begin + took


class Micro:
    def __init__(self, ns):
        self.ns = ns

    def text(self):
        return f"{self.ns // 1000}.{self.ns % 1000:03}"


class Raw(Micro):
    def __init__(self, text):
        self.t = text

    def text(self):
        return self.t


def dump(x, f):
    f.write(json.dumps(x, default=lambda o: "@@" + o.text() + "@@").replace('"@@', "").replace('@@"', ""))


ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::{}, std::array<char*, {}ul> >(int, at::native::{}, std::array<char*, {}ul>)"
mul = lambda: ELEMENTWISE.format("AUnaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float> >", 2, "AUnaryFunctor<float, float, float, at::native::binary_internal::MulFunctor<float> >", 2)
FOREACH = "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::TensorListMetadata<{n}>, at::native::(anonymous namespace)::{f}>(at::native::(anonymous namespace)::TensorListMetadata<{n}>, at::native::(anonymous namespace)::{f})"


def step(w, n, seq):
    A = AUTOGRAD
    with w.op(f"ProfilerStep#{n}", cat="user_annotation"):
        with w.op("Optimizer.zero_grad#SGD.zero_grad", cat="user_annotation", own=20_000):
            pass
        with w.op("DistributedDataParallel.forward", cat="user_annotation", own=30_000):
            d = [[64, 3, 128, 128], [64, 3, 11, 11], [64], [], [], [], []]
            t = ["float"] * 3 + ["ScalarList"] * 3 + ["Scalar"]
            with w.op("aten::conv2d", seq=seq, dims=d, types=t):
                with w.op("aten::convolution", seq=seq, dims=d + [[], []], types=t + ["ScalarList", "Scalar"]):
                    with w.op("aten::_convolution", seq=seq, dims=d + [[], []], types=t + ["ScalarList", "Scalar"]):
                        with w.op("aten::cudnn_convolution", dims=d[:2], types=t[:2]):
                            w.gpu("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x64x16_stage4_warpsize2x2x1_g1_tensor16x8x8_kernel_cudnn", 182.111, grid=(481, 1, 1), block=(128, 1, 1))
                        with w.op("aten::add_", dims=[[64, 64, 31, 31], [1, 64, 1, 1], []], types=["float", "float", "Scalar"]):
                            w.gpu(ELEMENTWISE.format("CUDAFunctor_add<float>", 3, "CUDAFunctor_add<float>", 3), 21.5)
            with w.op("aten::relu", seq=seq + 1, dims=[[64, 64, 31, 31]]):
                with w.op("aten::clamp_min", dims=[[64, 64, 31, 31], []], types=["float", "Scalar"]):
                    w.gpu(ELEMENTWISE.format("(anonymous namespace)::launch_clamp_scalar(at::TensorIteratorBase&, c10::Scalar, c10::Scalar, at::native::detail::ClampLimits)::{lambda(float)#1}", 2, "F", 2), 20.6)
            with w.op("aten::flatten", seq=seq + 2, dims=[[64, 64, 31, 31], [], []], types=["float", "Scalar", "Scalar"]):
                with w.op("aten::view", seq=seq + 2, dims=[[64, 64, 31, 31], []], types=["float", "ScalarList"]):
                    pass
            with w.op("aten::linear", seq=seq + 3, dims=[[64, 61504], [100, 61504], [100]]):
                with w.op("aten::t", seq=seq + 3, dims=[[100, 61504]]):
                    with w.op("aten::transpose", dims=[[100, 61504], [], []], types=["float", "Scalar", "Scalar"]):
                        pass
                with w.op("aten::addmm", seq=seq + 4, dims=[[100], [64, 61504], [61504, 100], [], []], types=["float"] * 3 + ["Scalar"] * 2):
                    w.gpu("ampere_sgemm_32x32_sliced1x4_tn", 61.3, grid=(4, 2, 31), block=(128, 1, 1))
                    w.gpu("void cublasLt::splitKreduce_kernel<32, 16, int, float, float, float, float, true, true, false>(cublasLt::cublasSplitKParams<float>, float const*, float const*, float*, float const*, float const*, float const*, float const*, float*, void*, long, float*, int*)", 3.4)
        with w.op("aten::cross_entropy_loss", seq=seq + 5, dims=[[64, 100], [64], [], [], [], []], types=["float", "long int", "", "Scalar", "Scalar", "Scalar"]):
            with w.op("aten::log_softmax", seq=seq + 5, dims=[[64, 100], [], []], types=["float", "Scalar", ""]):
                with w.op("aten::_log_softmax", seq=seq + 5, dims=[[64, 100], [], []], types=["float", "Scalar", "Scalar"]):
                    w.gpu("void (anonymous namespace)::softmax_warp_forward<float, float, float, 7, true, false>(float*, float const*, int, int, int, bool const*, int, bool)", 3.1)
            with w.op("aten::nll_loss_nd", seq=seq + 6, dims=[[64, 100], [64], [], [], []], types=["float", "long int", "", "Scalar", "Scalar"]):
                with w.op("aten::nll_loss_forward", seq=seq + 6, dims=[[64, 100], [64], [], [], []], types=["float", "long int", "", "Scalar", "Scalar"]):
                    w.gpu("void at::native::(anonymous namespace)::nll_loss_forward_reduce_cuda_kernel_2d<float, float, long>(float*, float*, float const*, long const*, float const*, bool, long, long, long, long)", 5.2)
        with w.op("aten::ones_like", dims=[[], [], [], [], [], []], types=["float", "", "", "", "Scalar", "Scalar"]):
            with w.op("aten::fill_", dims=[[], []], types=["float", "Scalar"]):
                w.gpu(ELEMENTWISE.format("FillFunctor<float>", 1, "FillFunctor<float>", 1), 1.6)

        # backward: on the device's autograd thread, while the main thread waits in backward()
        w.now[A] = w.now[MAIN] + 40_000
        ev = lambda name, s=None: w.op("autograd::engine::evaluate_function: " + name, A, seq=s, fwd=1)
        with ev("NllLossBackward0", seq + 6), w.op("NllLossBackward0", A, seq=seq + 6, fwd=1, dims=[[]]), w.op("aten::nll_loss_backward", A, dims=[[], [64, 100], [64]]):
            w.gpu("Memset (Device)", 1.1, A, cat="gpu_memset", bytes=25600)
            w.gpu("void at::native::(anonymous namespace)::nll_loss_backward_reduce_cuda_kernel_2d<float, long>(float*, float const*, long const*, float const*, float const*, bool, int, int, long, long)", 2.7, A)
        with ev("LogSoftmaxBackward0", seq + 5), w.op("LogSoftmaxBackward0", A, seq=seq + 5, fwd=1, dims=[[64, 100]]), w.op("aten::_log_softmax_backward_data", A, dims=[[64, 100], [64, 100]]):
            w.gpu("void (anonymous namespace)::softmax_warp_backward<float, float, float, 7, true, false>(float*, float const*, float const*, int, int, int, bool const*)", 2.9, A)
        with ev("AddmmBackward0", seq + 4):
            with w.op("AddmmBackward0", A, seq=seq + 4, fwd=1, dims=[[64, 100]]):
                with w.op("aten::mm", A, dims=[[64, 100], [100, 61504]]):
                    w.gpu("ampere_sgemm_64x64_nn", 58.8, A, grid=(961, 1, 1), block=(64, 1, 1))
                with w.op("aten::mm", A, dims=[[100, 64], [64, 61504]]):
                    w.gpu("ampere_sgemm_128x64_nt", 66.4, A, grid=(481, 2, 1), block=(128, 1, 1))
            with w.op("aten::sum", A, dims=[[64, 100], [], [], []], types=["float", "ScalarList", "Scalar", ""]):
                w.gpu("void at::native::reduce_kernel<128, 4, at::native::ReduceOp<float, at::native::func_wrapper_t<float, at::native::sum_functor<float, float, float>::operator()(at::TensorIterator&)::{lambda(float, float)#1}>, unsigned int, float, 4, 4> >(at::native::ReduceOp<...>)", 4.8, A)
        accumulate(w, [100], 2.0)
        with ev("TBackward0", seq + 3), w.op("TBackward0", A, seq=seq + 3, fwd=1, dims=[[61504, 100]]), w.op("aten::t", A, dims=[[61504, 100]]):
            pass
        first = accumulate(w, [100, 61504], 37.4, launch=(6150500, 2150.0))
        with ev("ViewBackward0", seq + 2), w.op("ViewBackward0", A, seq=seq + 2, fwd=1, dims=[[64, 61504]]):
            pass
        with ev("ReluBackward0", seq + 1), w.op("ReluBackward0", A, seq=seq + 1, fwd=1, dims=[[64, 64, 31, 31]]), w.op("aten::threshold_backward", A, dims=[[64, 64, 31, 31], [64, 64, 31, 31], []], types=["float", "float", "Scalar"]):
            w.gpu(ELEMENTWISE.format("BinaryFunctor<float, float, float, at::native::threshold_kernel_impl>", 3, "F", 3), 31.2, A)
        with ev("ConvolutionBackward0", seq), w.op("ConvolutionBackward0", A, seq=seq, fwd=1, dims=[[64, 64, 31, 31]]), w.op("aten::convolution_backward", A, dims=[[64, 64, 31, 31], [64, 3, 128, 128], [64, 3, 11, 11]]):
            with w.op("aten::cudnn_convolution_backward_weight", A, dims=[[64, 64, 31, 31], [64, 3, 128, 128]]):
                w.gpu("cudnn::cnn::wgrad_alg0_engine<float, 512, 6, 5, 3, 3, 3, false, 512>(int, int, int, float const*, int, float*, float const*, kernel_grad_params, unsigned long long, int, float, int, int, int, int)", 402.6, A, grid=(12, 64, 1), block=(512, 1, 1))
            with w.op("aten::sum", A, dims=[[64, 64, 31, 31], [], [], []], types=["float", "ScalarList", "Scalar", ""]):
                w.gpu("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::func_wrapper_t<float, at::native::sum_functor<float, float, float>::operator()(at::TensorIterator&)::{lambda(float, float)#1}>, unsigned int, float, 4, 4> >(at::native::ReduceOp<...>)", 18.3, A)
        accumulate(w, [64, 3, 11, 11], 2.1)
        second = accumulate(w, [64], 1.9, launch=(23296, 28.0))

        # end of backward, on the same thread: wait for each bucket, copy it back
        for end, shapes in ((first, ([100], [100, 61504])), (second, ([64, 3, 11, 11], [64]))):
            w.runtime("cudaStreamWaitEvent", A, 147, 900)
            for k, shape in enumerate(shapes):
                size = 4
                for x in shape:
                    size *= x
                with w.op("torch.distributed.ddp.reducer::copy_bucket_to_grad", A, dims=[shape]), w.op("aten::copy_", A, dims=[shape, shape, []], types=["float", "float", "Scalar"]):
                    w.gpu("Memcpy DtoD (Device -> Device)", 1.4 + size / 720e3, A, cat="gpu_memcpy", bytes=size, after=end)
        w.now[MAIN] = w.now[A] + 30_000
        with w.op("Optimizer.step#SGD.step", cat="user_annotation", own=40_000):
            lists = {"dims": [[], []], "types": ["TensorList", "Scalar"]}
            with w.op("aten::_foreach_mul_", **lists):
                w.gpu(FOREACH.format(n=1, f="BinaryOpScalarFunctor<float, 1, 1, 0>, std::multiplies<float>, float"), 34.2, grid=(97, 1, 1), block=(512, 1, 1))
            with w.op("aten::_foreach_add_", **lists):
                w.gpu(FOREACH.format(n=2, f="BinaryOpListAlphaFunctor<float, 2, 2, 0>, std::plus<float>, float"), 50.7, grid=(97, 1, 1), block=(512, 1, 1))
            with w.op("aten::_foreach_add_", **lists):
                w.gpu(FOREACH.format(n=2, f="BinaryOpListAlphaFunctor<float, 2, 2, 0>, std::plus<float>, float"), 50.9, grid=(97, 1, 1), block=(512, 1, 1))


def accumulate(w, shape, us, launch=None):
    A, end = AUTOGRAD, None
    with w.op("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", A):
        with w.op("torch::autograd::AccumulateGrad", A, dims=[shape]), w.op("aten::detach", A, dims=[shape]):
            pass
        with w.op("torch::distributed::reducer::mul_out", A, dims=[shape]), w.op("aten::mul", A, dims=[shape, [], shape], types=["float", "double", "float"]):
            w.gpu(mul(), us, A)
        if launch:
            n, took = launch
            meta = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": n, "Out msg nelems": n, "Group size": 2}
            group = {"Process Group Name": "0", "Process Group Description": "default_pg", "Process Group Ranks": "[0, 1]"}
            with w.op("c10d::allreduce_", A, dims=[[[n]], [], [], [], [], []], types=["TensorList", "", "", "", "Scalar", "Scalar"], concrete=["", "", "", "", "True", "-1"]):
                with w.op("record_param_comms", A, dims=[[[n]], [], [], [], [], [], [], [], [], []], types=["TensorList"] + ["Scalar"] * 9,
                          extra={**meta, "In split size": "[]", "Out split size": "[]", "Global rank start": 0, "Global rank stride": 1, **group, "Rank": 0}):
                    with w.op("nccl:all_reduce", A, cat="user_annotation", dims=[[n]]):
                        w.runtime("cudaEventRecord", A, 135, 900)
                        w.runtime("cudaStreamWaitEvent", A, 147, 700)
                        end = w.gpu("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", took, A, stream=NCCL, after=w.stream[COMPUTE] + 3_000,
                                    grid=(24, 1, 1), block=(544, 1, 1), extra={**meta, "In split size": "[]", "Out split size": "[]", **group})
    return end


def main():
    w = Writer()
    for n, seq in ((3, 21), (4, 28)):
        step(w, n, seq)
    main_end = max(w.now[MAIN], w.now[AUTOGRAD])
    w.runtime("cudaDeviceSynchronize", MAIN, 165, max(w.stream.values()) - w.now[MAIN] + 5_000)
    for (name, ext, stream), (a, b) in w.gpu_spans.items():  # one ns earlier, two longer, as kineto does
        w.events.append({"ph": "X", "cat": "gpu_user_annotation", "name": name, "pid": DEVICE, "tid": stream, "ts": Micro(a - 1), "dur": Micro(b - a + 2), "args": {"External id": ext}})
    meta = lambda what, pid, tid, **a: {"ph": "M", "name": what, "ts": Micro(T0), "pid": pid, "tid": tid, "args": a}
    head = [meta("process_name", PID, 0, name="python"), meta("process_labels", PID, 0, labels="CPU"), meta("process_sort_index", PID, 0, sort_index=PID),
            meta("process_name", 0, 0, name="python"), meta("process_labels", 0, 0, labels="GPU 0"), meta("process_sort_index", 0, 0, sort_index=5000000)]
    for tid, name in ((MAIN, "thread 4242 (python)"), (AUTOGRAD, "thread 4310 (pt_autograd_0)")):
        head += [meta("thread_name", PID, tid, name=name), meta("thread_sort_index", PID, tid, sort_index=tid)]
    for s in (COMPUTE, NCCL):
        head += [meta("thread_name", 0, s, name=f"stream {s} "), meta("thread_sort_index", 0, s, sort_index=s)]
    fwdbwd, made = [], {}
    for e in w.events:
        s = e["args"].get("Sequence number")
        if s is not None and e["args"].get("Fwd thread id") == 0:
            made[s] = e
    flow = 0
    for e in w.events:
        s = e["args"].get("Sequence number")
        if s in made and e["args"].get("Fwd thread id") == 1 and e["name"].startswith("autograd::"):
            flow += 1
            fwdbwd.append({"ph": "s", "id": flow, "pid": PID, "tid": made[s]["tid"], "ts": made[s]["ts"], "cat": "fwdbwd", "name": "fwdbwd"})
            fwdbwd.append({"ph": "f", "id": flow, "pid": PID, "tid": e["tid"], "ts": e["ts"], "cat": "fwdbwd", "name": "fwdbwd", "bp": "e"})
    tail = [{"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "PyTorch Profiler", "ts": Micro(T0 - 5000), "dur": Micro(w.now[MAIN] - T0 + 10000), "args": {"Op count": 0}},
            {"ph": "i", "s": "g", "name": "Iteration Start: PyTorch Profiler", "pid": "Traces", "tid": "Trace PyTorch Profiler", "ts": Micro(T0 - 5000)},
            {"ph": "i", "s": "g", "name": "Record Window End", "pid": "", "tid": "", "ts": Micro(w.now[MAIN] + 20000)}]
    top = {
        "schemaVersion": 1,
        "made_up": "Written by gpu_made_up.py, not recorded: durations are plausible, not measured.",
        "deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-40GB", "totalGlobalMem": 42297786368, "computeMajor": 8, "computeMinor": 0, "maxThreadsPerBlock": 1024,
                              "maxThreadsPerMultiprocessor": 2048, "regsPerBlock": 65536, "warpSize": 32, "sharedMemPerBlock": 49152, "numSms": 108,
                              "regsPerMultiprocessor": 65536, "sharedMemPerBlockOptin": 166912, "sharedMemPerMultiprocessor": 167936}],
        "cupti_version": 24, "cuda_runtime_version": 12060, "cuda_driver_version": 12060, "record_shapes": 1,
        "trace_id": "00000000000000000000000000000000",
        "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 2, "pg_count": 1, "pg_config": [{"pg_name": "0", "pg_desc": "default_pg", "backend_config": "cuda:nccl", "pg_size": 2, "ranks": [0, 1]}], "nccl_version": "2.21.5"},
        "displayTimeUnit": "ms", "baseTimeNanoseconds": BASE_NS,
    }
    with open("gpu-made-up.json", "w") as f:
        f.write("{\n")
        for k, v in top.items():
            f.write(f"  {json.dumps(k)}: ")
            dump(v, f)
            f.write(",\n")
        f.write('  "traceEvents": [\n')
        everything = head + w.events + fwdbwd + w.flows + tail
        for i, e in enumerate(everything):
            f.write("    ")
            dump(e, f)
            f.write(",\n" if i + 1 < len(everything) else "\n")
        f.write('  ],\n  "traceName": "gpu-made-up.json"\n}\n')


main()
