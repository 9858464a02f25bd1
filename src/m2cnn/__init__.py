"""m2cnn: grades diabetic retinopathy from photographs of the retina. Research software, not a medical device."""

__version__ = "0.1.0"
