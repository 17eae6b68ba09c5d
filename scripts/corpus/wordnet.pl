#!/usr/bin/perl
# usage: wordnet.pl data.noun TEST_SIZE OUT_DIR
# WordNet's noun synsets -> labelled glosses, OUT_DIR/test.tsv and OUT_DIR/train.tsv: a line is
# supersense<TAB>gloss. The supersense is the lexicographer file (26 of them); the gloss is the
# definition without the quoted examples. Each text occurs once over both files (texts are equal
# if they are the same words in lower case); the order, and with it the split, is that of a keyed
# hash of the words, so the first n lines of train.tsv are a random sample.
use strict;
use warnings;

my @senses = qw(Tops act animal artifact attribute body cognition communication event feeling food
  group location motive object person phenomenon plant possession process quantity relation shape
  state substance time);
my $key = 'tilth wordnet 1';

# FNV-1a on 32 bits, finished as in MurmurHash3: spreads well enough to order texts.
sub hash32 {
  my $h = 2166136261;
  $h = (($h ^ $_) * 16777619) & 0xffffffff foreach unpack 'C*', $_[0];
  $h ^= $h >> 16;
  $h = ($h * 0x85ebca6b) & 0xffffffff;
  $h ^= $h >> 13;
  $h = ($h * 0xc2b2ae35) & 0xffffffff;
  return $h ^ ($h >> 16);
}

my ($data, $test_size, $out) = @ARGV;
open my $f, '<', $data or die "$data: $!\n";
my %text; # words -> [hash, sense, gloss] of the first synset with these words
while (my $line = <$f>) {
  my ($sense, $gloss) = $line =~ /^\d{8} (\d\d) n .* \| (.*?)\s*$/ or next;
  $gloss =~ s/[;:,]?\s*"[^"]*("|$)[^;]*//g;
  $gloss =~ s/\s+/ /g;
  $gloss =~ s/^[;: ]+|[;:, ]+$//g;
  (my $words = lc $gloss) =~ s/[^a-z0-9]+/ /g;
  $words =~ s/^ | $//g;
  next if $words eq '' || $text{$words};
  $text{$words} = [hash32("$key\0$words"), "noun.$senses[$sense - 3]", $gloss];
}
close $f;
my @rows = map { $text{$_} } sort { $text{$a}[0] <=> $text{$b}[0] || $a cmp $b } keys %text;
die "$data: only ", scalar @rows, " glosses\n" if @rows <= $test_size;
foreach my $part (['test', 0, $test_size - 1], ['train', $test_size, $#rows]) {
  my ($name, $first, $last) = @$part;
  open my $o, '>', "$out/$name.tsv" or die "$out/$name.tsv: $!\n";
  print $o "$_->[1]\t$_->[2]\n" foreach @rows[$first .. $last];
  close $o or die "$out/$name.tsv: $!\n";
}
