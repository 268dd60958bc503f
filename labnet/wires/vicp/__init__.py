"""VICP: the control protocol of LeCroy oscilloscopes."""
