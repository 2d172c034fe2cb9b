//! Limits of rendering a chat template.

use rbee_schema::WorkerSettings;

/// Limits of one rendering. A template comes with the model file and is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Most instructions that are executed.
    pub steps: u64,
    /// Most nested calls and loops.
    pub depth: usize,
    /// Most bytes that are written.
    pub bytes: usize,
}

impl From<&WorkerSettings> for TemplateLimits {
    fn from(settings: &WorkerSettings) -> Self {
        Self {
            steps: u64::from(settings.template_steps),
            depth: settings.template_depth as usize,
            bytes: usize::try_from(settings.template_size.bytes()).unwrap_or(usize::MAX),
        }
    }
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self::from(&WorkerSettings::default())
    }
}
