//! Work that is captured once and given as a whole from then on.

#![expect(unsafe_code, reason = "a graph is moved between threads")]

use std::sync::Arc;

use cudarc::driver::{CudaGraph, CudaStream, sys};

use super::super::device::DeviceError;
use super::called;
use super::gpu::Gpu;

/// Captured work.
///
/// It refers to memory, kernels and workspace of the GPU that captured it: it is only launched there,
/// and goes before that GPU goes.
pub struct Graph {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Graph").field("stream", &self.stream).finish_non_exhaustive()
    }
}

// SAFETY: a graph may be used by any thread, one at a time; it can be launched only together with a
// GPU that is borrowed alone, and dropped by its owner.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // The driver's graph, which goes after this, is destroyed in the context of the calling
        // thread. Nothing can be done about a failure.
        let _ = self.stream.context().bind_to_thread();
    }
}

/// A GPU whose stream is being captured. If what is given panics, the capture is ended all the same:
/// the stream would do nothing any more.
struct Capturing<'a>(&'a mut Gpu);

impl Capturing<'_> {
    fn end(&mut self) -> Result<Option<CudaGraph>, DeviceError> {
        self.0.capturing = false;
        self.0
            .stream
            .end_capture(sys::CUgraphInstantiate_flags(0))
            .map_err(called("ending the capture of work"))
    }
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        if self.0.capturing {
            // Nothing can be done about a failure.
            let _ = self.end();
        }
    }
}

impl Gpu {
    /// Captures what `give` gives to the GPU, without doing it. Work on other streams that waits for
    /// an event of this stream, and for which this stream waits at the end, is captured too.
    ///
    /// All work must have been done once before, so that nothing is loaded while it is captured.
    /// Captures on one GPU take turns: `give` must not wait for that of another thread.
    ///
    /// # Errors
    /// Those of `give`; [`DeviceError::Call`] if something in it cannot be captured.
    pub fn capture<E: From<DeviceError>>(
        &mut self,
        give: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Graph, E> {
        if self.capturing {
            let problem = "work is being captured already".to_owned();
            return Err(DeviceError::Call { call: "capturing work".to_owned(), problem }.into());
        }
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let _alone = self.exclude_captures();
        self.stream.begin_capture(mode).map_err(called("cuStreamBeginCapture"))?;
        self.capturing = true;
        let mut capturing = Capturing(self);
        let given = give(capturing.0);
        // Also after an error: the stream does nothing before its capture has ended.
        let graph = capturing.end();
        drop(capturing);
        given?;
        let graph = graph?.ok_or_else(|| {
            let problem = "the driver returns no graph".to_owned();
            DeviceError::Call { call: "ending the capture of work".to_owned(), problem }
        })?;
        graph.upload().map_err(called("cuGraphUpload"))?;
        Ok(Graph { graph, stream: Arc::clone(&self.stream) })
    }

    /// Gives captured work, without waiting for its end.
    ///
    /// # Errors
    /// [`DeviceError::Call`] if another GPU captured it, or the driver fails.
    pub fn launch_graph(&mut self, graph: &Graph) -> Result<(), DeviceError> {
        if !Arc::ptr_eq(&graph.stream, &self.stream) {
            let problem = "another GPU captured it".to_owned();
            return Err(DeviceError::Call { call: "cuGraphLaunch".to_owned(), problem });
        }
        graph.graph.launch().map_err(called("cuGraphLaunch"))
    }
}
